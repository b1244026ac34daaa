"""Potentials built again for other elements and readouts: what they knew, they still know."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import ModelError
from nequip.model.potential import Potential
from nequip.model.rebuild import most_similar, rebuild, retyped_card
from nequip.model.registry import build_potential, get_architecture

TINY = {
    "nequip": {"num_layers": 2, "l_max": 1, "num_features": 4, "radial_mlp_width": 8},
    "allegro": {"num_layers": 1, "l_max": 1, "num_scalar_features": 8, "num_tensor_features": 4},
    "allegro_spline": {"num_layers": 1, "l_max": 1, "num_scalar_features": 8, "radial_embedding": "spline"},
    "mace": {
        "interaction_shift": 0.1,
        "hidden_irreps": "4x0e+4x1o",
        "l_max": 2,
        "correlation": 2,
        "radial_mlp": (8,),
    },
    "mace_zbl": {
        "interaction_shift": 0.1,
        "hidden_irreps": "4x0e",
        "l_max": 1,
        "correlation": 2,
        "pair_potential": "zbl",
    },
}
PER_TYPE = {
    "type_names": ("H", "C", "O"),
    "r_max": 3.0,
    "avg_num_neighbors": {"H": 3.0, "C": 5.0, "O": 4.0},
    "per_type_energy_scales": {"H": 1.0, "C": 2.0, "O": 3.0},
    "per_type_energy_shifts": {"H": -13.0, "C": -1029.0, "O": -2041.0},
    "per_edge_type_cutoff": {"H": 2.0, "C": {"H": 2.5}},
    "dtype": "float64",
    "backend": "reference",
}


def tiny(name: str, **changes: object) -> Potential:
    architecture = get_architecture(name.partition("_")[0])
    values = {"name": architecture.name, **PER_TYPE, **TINY[name], **changes}
    return build_potential(architecture.config.model_validate(values)).eval()


def graph_of(potential: Potential, numbers: Sequence[int], head: int = 0) -> AtomicGraph:
    """Atoms 1 to 2 Å from their neighbors."""
    positions = np.random.default_rng(0).normal(0, 0.1, (len(numbers), 3))
    positions += np.indices((2, 2, 2)).reshape(3, -1).T[: len(numbers)] * 1.3
    frame = Frame(np.array(numbers), positions)
    graph = build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)
    return graph._replace(head=torch.tensor([head]))


OLD = [1, 6, 8, 1, 6, 1, 8]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("types", [("H", "C", "O", "N"), ("Si", "O", "C", "S", "H")], ids="-".join)
def test_known_elements_keep_their_energies_and_forces(name, types):
    old = tiny(name)
    new = rebuild(old, types)
    before, after = old(graph_of(old, OLD)), new(graph_of(new, OLD))
    assert after.energy.item() == pytest.approx(before.energy.item(), abs=1e-10)
    assert torch.allclose(after.forces, before.forces, atol=1e-11, rtol=0)


@pytest.mark.parametrize("name", TINY)
def test_elements_can_be_left_out(name):
    old = tiny(name)
    new = rebuild(old, ("O", "H"))
    structure = [1, 8, 8, 1]
    assert new(graph_of(new, structure)).energy.item() == pytest.approx(
        old(graph_of(old, structure)).energy.item(), abs=1e-10
    )


@pytest.mark.parametrize("name", ["nequip", "allegro", "allegro_spline", "mace"])
def test_a_new_element_starts_as_a_copy_of_the_most_similar_one(name):
    old = tiny(name, per_edge_type_cutoff=None)
    new = rebuild(old, ("H", "C", "O", "S"))
    oxide, sulfide = new(graph_of(new, [1, 8, 6])), new(graph_of(new, [1, 16, 6]))
    assert sulfide.energy.item() == pytest.approx(oxide.energy.item(), abs=1e-10)


@pytest.mark.parametrize(
    ("name", "known", "like"),
    [
        ("S", "HCO", "O"),
        ("N", "HCO", "C"),
        ("N", "OCP", "P"),
        ("He", ("H", "Ne"), "Ne"),
        ("Na", ("H", "Mg"), "H"),
    ],
)
def test_elements_of_one_group_are_similar(name, known, like):
    assert most_similar(name, known) == like


def test_numbers_for_each_type_go_with_their_elements():
    card = retyped_card(tiny("nequip").card, ("O", "S", "H"))
    assert card.config["avg_num_neighbors"] == {"O": 4.0, "S": 4.0, "H": 3.0}
    # from H to any 2 Å, everything else as far as r_max
    assert card.per_edge_type_cutoff == ((3.0, 3.0, 3.0), (3.0, 3.0, 3.0), (2.0, 2.0, 2.0))


def test_a_new_head_starts_as_a_copy_and_the_old_one_stays():
    old = tiny("mace", heads=("dft",))
    new = rebuild(old, ("H", "C", "O", "N"), ("cc", "dft"))
    assert new.heads == ("cc", "dft")
    before = old(graph_of(old, OLD))
    for head in (0, 1):
        after = new(graph_of(new, OLD, head))
        assert after.energy.item() == pytest.approx(before.energy.item(), abs=1e-10)
        assert torch.allclose(after.forces, before.forces, atol=1e-11, rtol=0)


def test_heads_can_be_left_out_and_change_places():
    old = tiny("mace", heads=("a", "b", "c"))
    new = rebuild(old, old.card.type_names, ("c", "a"))
    expected = [old(graph_of(old, OLD, head)).energy.item() for head in (2, 0)]
    assert [new(graph_of(new, OLD, head)).energy.item() for head in (0, 1)] == pytest.approx(
        expected, abs=1e-10
    )


def test_shifts_of_a_head_belong_to_it_alone():
    potential = rebuild(tiny("mace", heads=("dft",)), ("H", "C", "O"), ("cc", "dft"))
    before = [potential(graph_of(potential, OLD, head)).energy.item() for head in (0, 1)]
    with torch.no_grad():
        potential.energy_shifts[0].add_(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    after = [potential(graph_of(potential, OLD, head)).energy.item() for head in (0, 1)]
    assert after == pytest.approx([before[0] + 3, before[1]], abs=1e-10)


@pytest.mark.parametrize("name", ["nequip", "allegro"])
def test_a_second_head_where_there_are_none_is_refused(name):
    with pytest.raises(ModelError, match="has one readout, no heads"):
        rebuild(tiny(name), ("H", "C", "O"), ("new", "default"))


def test_an_architecture_that_does_not_tell_keeps_its_elements():
    class Silent(Potential):
        def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
            return graph.positions[:, 0]

    with pytest.raises(ModelError, match="nequip does not say which of its weights belong to types"):
        rebuild(Silent(tiny("nequip").card), ("H", "N"))
