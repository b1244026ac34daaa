"""The neighbor lists against all pairs of all images, and against matscipy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matscipy.neighbours import neighbour_list

from nequip.data.frame import Frame
from nequip.data.neighbors import (
    Cutoffs,
    TypeMapper,
    build_graph,
    edge_lengths,
    find_neighbors,
    shortest_distance,
)
from nequip.errors import DataError

CUBE = np.eye(3)
SKEWED = np.array([[3.0, 0.0, 0.0], [2.6, 1.8, 0.0], [-1.9, 2.2, 2.4]])
GEOMETRIES = {
    "no cell": (np.zeros((3, 3)), (False, False, False)),
    "large cube": (12.0 * CUBE, (True, True, True)),
    "tiny cube": (2.2 * CUBE, (True, True, True)),
    "tiny skewed cell": (SKEWED, (True, True, True)),
    "left-handed cell": (SKEWED[[1, 0, 2]], (True, True, True)),
    "slab with a third vector": (np.diag([3.0, 4.0, 20.0]), (True, True, False)),
    "slab without a third vector": (np.diag([3.0, 4.0, 0.0]), (True, True, False)),
    "skewed slab, second axis open": (
        np.array([[3.0, 0, 0], [0, 0, 0], [1.5, 0.5, 4.0]]),
        (True, False, True),
    ),
    "wire": (np.diag([0.0, 0.0, 2.5]), (False, False, True)),
    "cell but not periodic": (4.0 * CUBE, (False, False, False)),
}


def frame_in(geometry: str, num_atoms: int = 5, seed: int = 0, spread: float = 1.0) -> Frame:
    """Atoms thrown at random; `spread` above 1 puts them outside the cell."""
    cell, pbc = GEOMETRIES[geometry]
    rng = np.random.default_rng(seed)
    box = np.where(np.linalg.norm(cell, axis=1, keepdims=True) > 0, cell, 4.0 * CUBE)
    positions = spread * rng.uniform(-0.5, 1.0, (num_atoms, 3)) @ box
    return Frame(rng.choice([1, 8], num_atoms), positions, cell, pbc)


def edges(frame: Frame, cutoffs: Cutoffs) -> set[tuple[int, ...]]:
    types = TypeMapper(["H", "O"])(frame.numbers)
    found = find_neighbors(frame, types, cutoffs)
    rows = np.column_stack([found.center, found.neighbor, found.shift])
    assert len(np.unique(rows, axis=0)) == len(rows)
    return {tuple(row) for row in rows.tolist()}


def all_pairs(frame: Frame, r_max: float) -> set[tuple[int, ...]]:
    """Every pair within `r_max`, by trying images far beyond those that can matter."""
    span = np.linalg.norm(np.ptp(frame.positions, axis=0)) + r_max
    per_length = np.linalg.norm(np.linalg.pinv(frame.cell), axis=0)  # cells crossed
    reach = [int(np.ceil(span * c)) if p else 0 for c, p in zip(per_length, frame.pbc, strict=True)]
    found = set()
    for shift in itertools.product(*(range(-n, n + 1) for n in reach)):
        offsets = frame.positions[None] - frame.positions[:, None] + np.array(shift) @ frame.cell
        for i, j in np.argwhere(np.linalg.norm(offsets, axis=2) < r_max).tolist():
            if i != j or any(shift):
                found.add((i, j, *shift))
    return found


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("spread", [1.0, 3.0], ids=["inside", "outside"])
def test_edges_are_all_pairs_within_the_cutoff(geometry, spread):
    frame = frame_in(geometry, spread=spread)
    assert edges(frame, Cutoffs(4.0)) == all_pairs(frame, 4.0)


@pytest.mark.parametrize("geometry", [name for name in GEOMETRIES if "without" not in name])
def test_edges_are_those_of_matscipy(geometry):
    frame = frame_in(geometry, num_atoms=8, seed=1)
    box = np.where(np.linalg.norm(frame.cell, axis=1, keepdims=True) > 0, frame.cell, 50.0 * CUBE)
    found = neighbour_list("ijS", cutoff=4.0, positions=frame.positions, cell=box, pbc=frame.pbc)
    rows = np.column_stack(found).tolist()
    assert edges(frame, Cutoffs(4.0)) == {tuple(row) for row in rows}


@settings(max_examples=60, deadline=None)
@given(
    geometry=st.sampled_from(sorted(GEOMETRIES)),
    num_atoms=st.integers(1, 6),
    seed=st.integers(0, 10_000),
    r_max=st.floats(1.0, 5.0),
)
def test_any_structure_agrees_with_all_pairs(geometry, num_atoms, seed, r_max):
    frame = frame_in(geometry, num_atoms, seed)
    assert edges(frame, Cutoffs(r_max)) == all_pairs(frame, r_max)


def test_a_lone_atom_has_no_neighbor():
    assert edges(Frame(np.array([1]), np.zeros((1, 3))), Cutoffs(5.0)) == set()


def test_a_lone_atom_in_a_cell_sees_its_images():
    frame = Frame(np.array([1]), np.zeros((1, 3)), 3.0 * CUBE, (True, True, True))
    assert edges(frame, Cutoffs(3.5)) == {
        (0, 0, *shift) for shift in itertools.product((-1, 0, 1), repeat=3) if sum(map(abs, shift)) == 1
    }


def test_no_atoms_have_no_edges():
    assert edges(Frame(np.zeros(0, dtype=np.int64), np.zeros((0, 3))), Cutoffs(5.0)) == set()


def test_each_ordered_pair_of_types_keeps_its_own_cutoff():
    frame = frame_in("tiny skewed cell", num_atoms=6, seed=3)
    types = TypeMapper(["H", "O"])(frame.numbers)
    table = ((4.0, 3.0), (1.5, 2.0))
    found = find_neighbors(frame, types, Cutoffs(4.0, table))
    wanted = set()
    for i, j, *shift in all_pairs(frame, 4.0):
        distance = np.linalg.norm(frame.positions[j] - frame.positions[i] + np.array(shift) @ frame.cell)
        if distance < table[types[i]][types[j]]:
            wanted.add((i, j, *shift))
    rows = np.column_stack([found.center, found.neighbor, found.shift]).tolist()
    assert {tuple(row) for row in rows} == wanted
    assert len(wanted) > 10


def test_an_asymmetric_cutoff_keeps_one_direction_of_a_pair():
    frame = Frame(np.array([1, 8]), np.array([[0.0, 0, 0], [0, 0, 2.0]]))
    found = find_neighbors(frame, np.array([0, 1]), Cutoffs(4.0, ((4.0, 4.0), (1.0, 4.0))))
    assert (found.center.tolist(), found.neighbor.tolist()) == ([0], [1])


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_graph_is_sorted_with_row_pointers_and_transpose(geometry):
    graph = build_graph(frame_in(geometry, num_atoms=7), TypeMapper(["H", "O"]), Cutoffs(3.0))
    assert (graph.center.diff() >= 0).all()
    assert (graph.neighbor[graph.transpose].diff() >= 0).all()
    assert sorted(graph.transpose.tolist()) == list(range(graph.num_edges))
    for atom in range(graph.num_atoms):
        rows = slice(int(graph.row_ptr[atom]), int(graph.row_ptr[atom + 1]))
        assert (graph.center[rows] == atom).all()
    assert graph.row_ptr[-1] == graph.num_edges


def test_edge_lengths_are_those_of_the_images():
    frame = frame_in("tiny skewed cell")
    found = find_neighbors(frame, np.zeros(5, dtype=np.int64), Cutoffs(4.0))
    lengths = edge_lengths(frame, found)
    assert len(lengths) > 0
    assert lengths.max() < 4.0


def test_the_shortest_distance_is_found_beyond_the_first_radius():
    frame = Frame(np.array([1, 1]), np.array([[0.0, 0, 0], [0, 0, 17.5]]))
    assert shortest_distance(frame) == pytest.approx(17.5)


def test_a_lone_atom_has_no_shortest_distance():
    assert shortest_distance(Frame(np.array([1]), np.zeros((1, 3)))) == float("inf")


PAIR = np.array([[0.0, 0, 0], [0, 0, 1.0]])


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (
            Frame(np.array([1, 1]), np.array([[0, 0, 0], [0, np.nan, 0]])),
            "position of atom 1 is not a finite",
        ),
        (Frame(np.array([1, 1]), np.array([[0, 0, 0], [0, 0, 0.01]])), "atoms 0 and 1 overlap.*0.0100 Å"),
        (Frame(np.array([1, 1]), PAIR, np.diag([3.0, 0, 3.0]), (True,) * 3), "direction 1 is periodic but"),
        (
            Frame(np.array([1, 1]), PAIR, np.array([[3.0, 0, 0], [3, 0, 0], [0, 0, 3]]), (True,) * 3),
            "linearly dependent",
        ),
        (Frame(np.array([1, 1]), PAIR, np.full((3, 3), np.inf), (True,) * 3), "cell is not made of finite"),
    ],
)
def test_structures_that_make_no_sense_are_refused(frame, sentence):
    with pytest.raises(DataError, match=f"^here.*{sentence}"):
        find_neighbors(frame, np.zeros(2, dtype=np.int64), Cutoffs(4.0), "here")


def test_an_atom_on_its_own_image_overlaps():
    frame = Frame(np.array([1, 1]), np.array([[0.0, 0, 0], [3.0, 3.0, 3.005]]), 3.0 * CUBE, (True,) * 3)
    with pytest.raises(DataError, match="atoms 0 and 1 overlap"):
        find_neighbors(frame, np.zeros(2, dtype=np.int64), Cutoffs(4.0))


def test_an_element_that_the_model_lacks_is_named():
    with pytest.raises(DataError, match="here holds C, N, but the model knows only H, O"):
        TypeMapper(["H", "O"])(np.array([1, 6, 7, 8]), "here")


def test_type_names_are_chemical_symbols():
    with pytest.raises(DataError, match="'X1' is not a chemical symbol"):
        TypeMapper(["H", "X1"])


def test_type_names_are_given_once():
    with pytest.raises(DataError, match="'H' is given twice"):
        TypeMapper(["H", "O", "H"])
