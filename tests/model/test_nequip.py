"""The NequIP model: presets, seeds, and what its configuration refuses."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from nequip.model.nequip import PRESETS, NequIPConfig, build

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
    assert str(chosen.irreps_hidden).startswith(f"{scalars}x0e+{vectors}x1o")


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


def test_the_last_layer_keeps_scalars_and_the_first_has_no_self_connection():
    model = build(config(num_layers=3, l_max=2, num_features=(4, 3, 2)))
    assert [str(layer.irreps_out) for layer in model.layers] == [
        "4x0e+3x1o+2x2e",
        "4x0e+3x1e+3x1o+2x2e+2x2o",
        "4x0e",
    ]
    assert [layer.self_connection is None for layer in model.layers] == [True, False, False]
