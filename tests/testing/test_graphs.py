"""What the strategies of the conformance suite draw."""

from __future__ import annotations

import numpy as np
import pytest
from ase.data import chemical_symbols
from hypothesis import given, settings
from hypothesis import strategies as st

from nequip.data.neighbors import Cutoffs, TypeMapper, find_neighbors
from nequip.testing.graphs import KINDS, MIN_DISTANCE, frames, orthogonal_matrices

R_MAX = 4.0
TYPES = TypeMapper(("H", "C", "O"))
few = settings(max_examples=30, derandomize=True, deadline=None)


def edges_within(frame, distance):
    return find_neighbors(frame, TYPES(frame.numbers), Cutoffs(distance)).center


def drawn(kind, number=30):
    """What a property of `kind` gets to see."""
    found = []

    @settings(few, max_examples=number)
    @given(frames(TYPES.type_names, R_MAX, 5, [kind]))
    def collect(frame):
        found.append(frame)

    collect()
    return found


@few
@given(frames(TYPES.type_names, R_MAX))
def test_no_two_atoms_nor_their_images_are_too_close(frame):
    assert len(edges_within(frame, MIN_DISTANCE * R_MAX - 1e-4)) == 0


@few
@given(frames(TYPES.type_names, R_MAX, 3))
def test_there_are_as_many_atoms_as_allowed(frame):
    assert 1 <= frame.num_atoms <= 3


@few
@given(st.sampled_from(KINDS).flatmap(lambda kind: frames(TYPES.type_names, R_MAX, 5, [kind])))
def test_elements_are_those_given(frame):
    assert {chemical_symbols[number] for number in frame.numbers} <= set(TYPES.type_names)


@pytest.mark.parametrize("kind", ["molecule", "crystal", "slab"])
def test_every_kind_but_isolated_atoms_has_edges(kind):
    assert all(len(edges_within(frame, R_MAX)) for frame in drawn(kind))


def test_isolated_atoms_have_no_edges():
    assert not any(len(edges_within(frame, R_MAX)) for frame in drawn("isolated"))


@pytest.mark.parametrize(
    ("kind", "periodic"), [("molecule", {0}), ("crystal", {3}), ("slab", {1, 2}), ("isolated", {0, 3})]
)
def test_a_kind_is_periodic_along_as_many_directions_as_it_says(kind, periodic):
    assert {sum(frame.pbc) for frame in drawn(kind)} == periodic


def test_some_cells_are_smaller_than_the_cutoff_and_skewed():
    cells = [frame.cell for frame in drawn("crystal")]
    assert any(np.linalg.norm(cell, axis=1).max() < R_MAX for cell in cells)
    assert any(np.tril(cell, -1).any() for cell in cells)


def test_some_atoms_lie_outside_the_cell():
    fractional = [frame.positions @ np.linalg.inv(frame.cell) for frame in drawn("crystal")]
    assert any((positions < -1).any() or (positions > 2).any() for positions in fractional)


def test_molecules_and_slabs_come_with_and_without_the_vectors_that_are_not_periodic():
    for kind in ("molecule", "slab"):
        assert {bool(np.linalg.det(frame.cell)) for frame in drawn(kind)} == {True, False}


def test_the_few_structures_that_a_property_sees_hold_several_elements_and_sizes():
    seen = drawn("crystal", number=6)
    assert len({frame.num_atoms for frame in seen}) > 1
    assert any(len(set(frame.numbers)) > 1 for frame in seen)


def test_the_same_structures_are_drawn_every_time():
    for first, second in zip(drawn("slab"), drawn("slab"), strict=True):
        np.testing.assert_array_equal(first.positions, second.positions)
        np.testing.assert_array_equal(first.cell, second.cell)


@pytest.mark.parametrize("determinant", [1, -1])
def test_matrices_are_orthogonal_with_the_determinant_given(determinant):
    @few
    @given(orthogonal_matrices(determinant))
    def check(matrix):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-14)
        assert np.linalg.det(matrix) == pytest.approx(determinant)

    check()
