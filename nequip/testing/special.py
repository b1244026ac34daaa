"""Structures that must be there rather than be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers

from nequip.data.frame import Frame
from nequip.model.potential import Potential


def without_neighbors(potential: Potential) -> dict[str, Frame]:
    """Structures without a single edge, none of them, one or two atoms, with and without a cell."""
    reach = potential.card.r_max
    numbers = [atomic_numbers[symbol] for symbol in potential.card.type_names]
    contents = {
        "no atoms": ([], np.zeros((0, 3))),
        "one atom": (numbers[:1], np.zeros((1, 3))),
        "one atom of the last type": (numbers[-1:], np.zeros((1, 3))),
        "two atoms": (numbers[:1] * 2, np.array([[0.0, 0.0, 0.0], [1.5 * reach, 0.0, 0.0]])),
    }
    cell = 3 * reach * np.eye(3)
    found = {}
    for name, (kinds, positions) in contents.items():
        kinds = np.array(kinds, dtype=np.int64)
        found[name] = Frame(kinds, positions)
        found[f"{name} in a cell"] = Frame(kinds, positions, cell, (True, True, True))
    return found


class Crossing(NamedTuple):
    """Three atoms, the second at three distances from the first; the third keeps them company."""

    pair: str
    near: Frame  # at 0.6 of the cutoff
    inside: Frame  # just within it
    outside: Frame  # just beyond it


def crossings(potential: Potential, step: float) -> Iterator[Crossing]:
    """Every ordered pair of types at its cutoff, `step` (a share of the cutoff) to either side."""
    names, cutoffs = potential.card.type_names, potential.cutoffs
    for i, center in enumerate(names):
        for j, neighbor in enumerate(names):
            cutoff = cutoffs.r_max if cutoffs.per_edge_type is None else cutoffs.per_edge_type[i][j]
            numbers = np.array([atomic_numbers[symbol] for symbol in (center, neighbor, center)])
            structures = [
                Frame(numbers, cutoff * np.array([[0.0, 0.0, 0.0], [distance, 0.0, 0.0], [0.5, 0.6, 0.0]]))
                for distance in (0.6, 1 - step, 1 + step)
            ]
            yield Crossing(f"{center} -> {neighbor}", *structures)
