"""The NequIP model: presets, seeds, and what its configuration refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.model.checkpoint import load
from nequip.model.nequip import PRESETS, NequIP, NequIPConfig, build
from nequip.model.rebuild import rebuild
from nequip.nn.exchange import owners

RESOLVED = {
    "type_names": ("H", "O"),
    "avg_num_neighbors": 10.0,
    "per_type_energy_scales": 1.0,
    "per_type_energy_shifts": 0.0,
}


def config(**keys: object) -> NequIPConfig:
    return NequIPConfig.model_validate(RESOLVED | keys)


@pytest.mark.parametrize("size", PRESETS)
def test_presets_have_the_published_shape(size):
    chosen = config(size=size)
    preset = PRESETS[size]
    assert (chosen.num_layers, chosen.l_max, chosen.widths) == tuple(preset.values())
    assert (chosen.parity, chosen.radial_mlp_depth, chosen.radial_mlp_width) == (False, 1, 128)
    assert chosen.type_embed_num_features == 32
    scalars, vectors = preset["num_features"][:2]
    assert str(chosen.features(0)).startswith(f"{scalars}x0e+{vectors}x1o")


def test_a_key_given_beside_the_size_wins():
    assert config(size="M", num_layers=3).num_layers == 3
    assert config(size="M", num_layers=3).l_max == 2


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    first = build(config(num_features=2, seed=1))
    torch.manual_seed(6)
    again, other = build(config(num_features=2, seed=1)), build(config(num_features=2, seed=2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.type_embedding, other.type_embedding)


def test_one_width_for_each_degree():
    with pytest.raises(ValidationError, match="l_max=2 needs 3"):
        config(l_max=2, num_features=(8, 4))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"hidden_irreps": ("4x0e", "4x0e")}, "num_layers=3 needs as many"),
        ({"hidden_irreps": ("4x0e", "4x1o", "4x0e")}, "'4x1o' has to have 0e"),
        ({"hidden_irreps": ("4x0e", "4x0e", "4x0e+1x1o")}, "ends with"),
        ({"hidden_irreps": ("4x0e", "4xe", "4x0e")}, "is not an irrep"),
        ({"self_connection": ("shared",)}, "num_layers=3 needs as many"),
        ({"radial_mlp_width": (8, 8), "radial_mlp_depth": 1}, "radial_mlp_depth=1 needs as many"),
        ({"cutoff_onset": 5.0}, "not below r_max"),
    ],
)
def test_options_that_do_not_fit_are_named(keys, words):
    with pytest.raises(ValidationError, match=words):
        config(num_layers=3, **keys)


OPTIONS = {
    "num_layers": 2,
    "num_features": 3,
    "l_max": 2,
    "r_max": 3.0,
    "radial_mlp_width": 8,
    "dtype": "float64",
    "self_connection": ("element", "shared"),
    "rms_norm": True,
    "linear_bias": True,
}


def water_and_hydroxide(potential: NequIP, turn: torch.Tensor | None = None) -> AtomicGraph:
    """Five atoms that are not their own mirror image."""
    positions = np.random.default_rng(1).normal(size=(5, 3))
    frame = Frame(np.array([8, 1, 1, 8, 1]), positions if turn is None else positions @ turn.numpy())
    return build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)


def test_without_parities_rotations_leave_energies_and_mirrors_do_not():
    # two layers see angles alone, the third which way around
    potential = build(
        config(**OPTIONS | {"num_layers": 3, "self_connection": "shared"}, parity="ignored")
    ).eval()
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    rotation = rotation * torch.linalg.det(rotation)
    energy = potential(water_and_hydroxide(potential)).energy
    turned = potential(water_and_hydroxide(potential, rotation)).energy
    mirrored = potential(water_and_hydroxide(potential, -rotation)).energy
    torch.testing.assert_close(turned, energy, atol=1e-11, rtol=0)
    assert (mirrored - energy).abs() > 1e-6


def test_ghosts_change_nothing_where_the_first_layer_has_a_self_connection():
    """Every neighbor is a copy of an atom, owned elsewhere."""
    potential = build(config(**OPTIONS)).eval()
    graph = water_and_hydroxide(potential)
    neighbor = graph.num_atoms + graph.neighbor
    divided = graph._replace(
        positions=graph.positions.repeat(2, 1),
        types=graph.types.repeat(2),
        batch=graph.batch.repeat(2),
        neighbor=neighbor,
        transpose=neighbor.argsort(stable=True),
    )
    with owners(torch.arange(graph.num_atoms)):
        energies = potential.atomic_energies(divided)
    torch.testing.assert_close(energies, potential.atomic_energies(graph), atol=1e-11, rtol=0)


def test_a_potential_with_other_options_is_saved_and_loaded(tmp_path):
    potential = build(config(**OPTIONS, parity="ignored", cutoff_onset=2.5, harmonics="solid")).eval()
    potential.save(tmp_path / "x.nequip")
    again, graph = load(tmp_path / "x.nequip"), water_and_hydroxide(potential)
    assert torch.equal(again(graph).energy, potential(graph).energy)


def test_a_new_element_starts_as_its_relative_with_matrices_of_its_own():
    potential = build(config(**OPTIONS)).eval()
    larger, graph = rebuild(potential, ("H", "O", "S")), water_and_hydroxide(potential)
    torch.testing.assert_close(larger(graph).energy, potential(graph).energy)


def test_the_last_layer_keeps_scalars_and_the_first_has_no_self_connection():
    model = build(config(num_layers=3, l_max=2, num_features=(4, 3, 2)))
    assert [str(layer.irreps_out) for layer in model.layers] == [
        "4x0e+3x1o+2x2e",
        "4x0e+3x1e+3x1o+2x2e+2x2o",
        "4x0e",
    ]
    assert [layer.self_connection is None for layer in model.layers] == [True, False, False]
