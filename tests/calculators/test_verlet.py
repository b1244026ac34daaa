from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_potential import toy_potential

from nequip.calculators.verlet import VerletList, prune, widen
from nequip.data.frame import Frame
from nequip.data.neighbors import Cutoffs, TypeMapper, build_graph
from nequip.errors import DataError

CPU = torch.device("cpu")
CUTOFFS = Cutoffs(3.5)
BY_TYPE = Cutoffs(3.5, ((3.5, 2.0), (2.5, 3.0)))


def wander(seed: int, steps: int, step: float) -> list[Frame]:
    """Atoms that walk through the faces of a small triclinic cell."""
    rng = np.random.default_rng(seed)
    cell = np.array([[4.2, 0.0, 0.0], [0.8, 4.6, 0.0], [-0.5, 0.3, 5.1]])
    scaled = np.array([[0, 0, 0], [0.5, 0.5, 0.1], [0.1, 0.5, 0.55], [0.55, 0.05, 0.5]])
    frame = Frame(np.array([1, 8, 1, 8]), scaled @ cell, cell, (True, True, True))
    frames = [frame]
    for _ in range(steps):
        frames.append(
            replace(frames[-1], positions=frames[-1].positions + rng.normal(0, step, (4, 3)) + step)
        )
    return frames


def verlet(skin: float, cutoffs: Cutoffs = CUTOFFS) -> VerletList:
    return VerletList(TypeMapper(("H", "O")), cutoffs, skin)


def assert_same_graph(graph, expected):
    assert graph.field is expected.field is None
    for name in set(graph._fields) - {"labels", "field"}:
        assert torch.equal(getattr(graph, name), getattr(expected, name)), name


@pytest.mark.parametrize("cutoffs", [CUTOFFS, BY_TYPE], ids=["global", "by type"])
def test_graph_is_bitwise_that_of_a_fresh_search(cutoffs):
    kept, fresh = verlet(1.0, cutoffs), verlet(0.0, cutoffs)
    for frame in wander(0, steps=60, step=0.05):
        assert_same_graph(kept.graph(frame, CPU), fresh.graph(frame, CPU))
    assert fresh.num_searches == 61
    assert 2 < kept.num_searches < 40


@pytest.mark.parametrize("cutoffs", [CUTOFFS, BY_TYPE], ids=["global", "by type"])
def test_edges_are_those_of_build_graph(cutoffs):
    frame = wander(1, steps=1, step=0.1)[-1]
    graph = verlet(0.7, cutoffs).graph(frame, CPU)
    expected = build_graph(frame, TypeMapper(("H", "O")), cutoffs)

    def edges(of):
        return sorted(
            zip(of.center.tolist(), of.neighbor.tolist(), map(tuple, of.shift.tolist()), strict=True)
        )

    assert edges(graph) == edges(expected)
    assert torch.equal(graph.row_ptr, expected.row_ptr)


def test_pruned_index_arrays_are_consistent():
    graph = verlet(1.5).graph(wander(2, steps=0, step=0.0)[0], CPU)
    assert torch.equal(graph.transpose, torch.argsort(graph.neighbor, stable=True))
    counts = torch.bincount(graph.center, minlength=graph.num_atoms)
    assert torch.equal(graph.row_ptr.diff(), counts)
    assert graph.row_ptr[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: replace(frame, cell=frame.cell * 1.0001),
        lambda frame: replace(frame, pbc=(True, True, False)),
        lambda frame: replace(frame, numbers=frame.numbers[::-1].copy()),
        lambda frame: replace(frame, positions=frame.positions[:3], numbers=frame.numbers[:3]),
        lambda frame: replace(frame, positions=frame.positions + np.array([0.51, 0, 0])),
    ],
    ids=["cell", "pbc", "numbers", "atom removed", "moved"],
)
def test_search_is_repeated_when_needed(change):
    frame = wander(3, steps=0, step=0.0)[0]
    kept = verlet(1.0)
    kept.graph(frame, CPU)
    kept.graph(replace(frame, positions=frame.positions + 0.2), CPU)
    assert kept.num_searches == 1
    assert_same_graph(kept.graph(change(frame), CPU), verlet(0.0).graph(change(frame), CPU))
    assert kept.num_searches == 2


def test_skin_zero_searches_once_for_atoms_at_rest():
    frame = wander(4, steps=0, step=0.0)[0]
    kept = verlet(0.0)
    kept.graph(frame, CPU)
    kept.graph(frame, CPU)
    assert kept.num_searches == 1


def test_atom_that_became_nan_is_refused_in_a_sentence():
    frame = wander(5, steps=0, step=0.0)[0]
    kept = verlet(1.0)
    kept.graph(frame, CPU)
    broken = frame.positions.copy()
    broken[2, 1] = np.nan
    with pytest.raises(DataError, match="position of atom 2 is not a finite number"):
        kept.graph(replace(frame, positions=broken), CPU)


def test_structure_without_atoms_has_no_edges():
    empty = Frame(np.zeros(0, dtype=np.int64), np.zeros((0, 3)))
    graph = verlet(0.5).graph(empty, CPU)
    assert (graph.num_atoms, graph.num_edges) == (0, 0)


def test_widen_moves_every_cutoff():
    assert widen(BY_TYPE, 0.5) == Cutoffs(4.0, ((4.0, 2.5), (3.0, 3.5)))


def test_prune_keeps_the_toy_energy():
    """A pair potential that vanishes at the cutoff cannot tell whether farther edges are there."""
    frame = wander(6, steps=0, step=0.0)[0]
    potential = toy_potential(("H", "O"), r_max=3.5)
    wide = build_graph(frame, TypeMapper(("H", "O")), widen(CUTOFFS, 1.0))
    pruned = prune(wide, CUTOFFS)
    assert pruned.num_edges < wide.num_edges
    torch.testing.assert_close(potential(pruned).energy, potential(wide).energy, rtol=0, atol=1e-12)


def test_atoms_that_met_within_the_skin_are_refused_in_a_sentence():
    apart = Frame(np.array([1, 8]), np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]]))
    lists = verlet(skin=0.5)
    lists.graph(apart, CPU)
    with pytest.raises(DataError, match="atoms 0 and 1 overlap"):
        lists.graph(replace(apart, positions=np.array([[0.0, 0.0, 0.0], [0.001, 0.0, 0.0]])), CPU)
