"""Structures that Hypothesis draws: every kind that a potential meets, never two atoms too close.

All numbers are drawn from grids, so that axes, right angles and equal distances come up (where
spherical harmonics have their poles) and a failing structure shrinks to one that can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import cos, pi, sin

import numpy as np
from ase.data import atomic_numbers
from ase.geometry import get_distances
from hypothesis import strategies as st

from nequip.data.frame import FloatArray, Frame

# A molecule may have a cell but is not periodic. The edges of a crystal are mostly shorter than the
# cutoff. A slab is periodic in one or two directions, its other lattice vectors given or zero.
# Isolated atoms have no neighbors, with or without a periodic cell.
KINDS = ("molecule", "crystal", "slab", "isolated")

# As shares of the cutoff, as are all lengths until `frames` returns.
MIN_DISTANCE = 0.3
ISOLATION = 1.5


@st.composite
def frames(
    draw: st.DrawFn,
    type_names: Sequence[str],
    r_max: float,
    max_atoms: int = 5,
    kinds: Sequence[str] = KINDS,
) -> Frame:
    """A structure of one of `kinds`; no two atoms, nor their images, closer than 0.3 r_max.

    Molecules, crystals and slabs hold at least one pair within 0.9 r_max where `max_atoms` allows
    two atoms. Periodic atoms may lie outside the cell.
    """
    kind = draw(st.sampled_from(kinds))
    if kind == "isolated":
        positions, cell, pbc = draw(_isolated(max_atoms))
    else:
        cell, pbc = draw(_cells(kind))
        positions = draw(_bonded(max_atoms, cell, pbc))
        images = draw(st.lists(_triples(1.0, -2, 2), min_size=len(positions), max_size=len(positions)))
        positions = positions + (np.reshape(images, (-1, 3)) * pbc) @ cell
    symbols = st.sampled_from(list(type_names))
    drawn = draw(st.lists(symbols, min_size=len(positions), max_size=len(positions)))
    numbers = np.array([atomic_numbers[symbol] for symbol in drawn], dtype=np.int64)
    return Frame(numbers, positions * r_max, cell * r_max, pbc)


@st.composite
def orthogonal_matrices(draw: st.DrawFn, determinant: int) -> FloatArray:
    """A rotation by three Euler angles, times -1 where `determinant` is -1."""
    first, second, third = draw(_triples(pi / 48, 0, 95))
    return determinant * _about_z(first) @ _about_x(second) @ _about_z(third)


def seeds() -> st.SearchStrategy[int]:
    """Seeds of random numbers, for what has no simplest example."""
    return st.integers(0, 999)


@st.composite
def _cells(draw: st.DrawFn, kind: str) -> tuple[FloatArray, tuple[bool, bool, bool]]:
    """Lower triangular: no lattice vector, however skewed, is shorter than the least of the diagonal."""
    lengths = draw(_triples(0.05, 10, 24))
    skews = draw(_triples(0.1, -4, 4))
    cell = np.diag(lengths)
    cell[np.tril_indices(3, -1)] = skews
    if kind == "crystal":
        return cell, (True, True, True)
    pbc = (False, False, False)
    if kind == "slab":
        one = [(True, False, False), (False, True, False), (False, False, True)]
        pbc = draw(st.sampled_from([*one, *((not a, not b, not c) for a, b, c in one)]))
    if draw(st.booleans()):
        cell[~np.array(pbc)] = 0.0
    return cell, pbc


@st.composite
def _bonded(draw: st.DrawFn, max_atoms: int, cell: FloatArray, pbc: tuple[bool, ...]) -> FloatArray:
    """Atoms added one by one, each at the length of a bond from an earlier one; crowded ones are left out."""
    positions = np.array([draw(_triples(0.1, -10, 10))])
    for _ in range(draw(st.integers(min(2, max_atoms), max_atoms)) - 1):
        parent = draw(st.integers(0, len(positions) - 1))
        length, polar, azimuth = draw(
            st.tuples(_multiples(0.025, 12, 24), _multiples(pi / 12, 0, 12), _multiples(pi / 12, 0, 23))
        )
        direction = np.array([sin(polar) * cos(azimuth), sin(polar) * sin(azimuth), cos(polar)])
        atom = positions[parent] + length * direction
        _, distances = get_distances(positions, atom[None], cell=cell, pbc=pbc)
        if distances.min() > MIN_DISTANCE - 1e-6:
            positions = np.vstack([positions, atom])
    return positions


@st.composite
def _isolated(draw: st.DrawFn, max_atoms: int) -> tuple[FloatArray, FloatArray, tuple[bool, bool, bool]]:
    number = draw(st.integers(1, min(3, max_atoms)))
    offsets = draw(st.lists(_triples(0.1, -2, 2), min_size=number, max_size=number))
    positions = np.array(offsets) + np.outer(np.arange(number), [2 * ISOLATION, 0.0, 0.0])
    if draw(st.booleans()):
        return positions, ISOLATION * np.diag([2.0 * number, 1.0, 1.0]), (True, True, True)
    return positions, np.zeros((3, 3)), (False, False, False)


@cache
def _multiples(of: float, low: int, high: int) -> st.SearchStrategy[float]:
    """`low` to `high` times a spacing; the simplest is zero, or the nearest to it."""
    return st.integers(low, high).map(lambda number: number * of)


@cache
def _triples(of: float, low: int, high: int) -> st.SearchStrategy[tuple[float, float, float]]:
    return st.tuples(*[_multiples(of, low, high)] * 3)


def _about_z(angle: float) -> FloatArray:
    return np.array([[cos(angle), -sin(angle), 0.0], [sin(angle), cos(angle), 0.0], [0.0, 0.0, 1.0]])


def _about_x(angle: float) -> FloatArray:
    return np.array([[1.0, 0.0, 0.0], [0.0, cos(angle), -sin(angle)], [0.0, sin(angle), cos(angle)]])
