"""Same weights, same numbers: golden outputs of the published Allegro."""

from __future__ import annotations

import pytest
from golden_files import STRUCTURES, Golden, golden_files

from nequip.errors import CheckpointError
from nequip.interop import from_published

GOLDEN = golden_files("allegro")

each_file = pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)


each_backend = pytest.mark.parametrize("backend", ["reference", "cpu"])


@each_backend
@each_file
@pytest.mark.parametrize("structure", STRUCTURES)
def test_float64_agrees_to_1e_10(path, structure, backend):
    golden = Golden(path)
    golden.check_float64(golden.predict(structure, "float64", backend), structure)


@each_backend
@each_file
@pytest.mark.parametrize("structure", STRUCTURES)
def test_float32_agrees_to_5e_5_relative(path, structure, backend):
    golden = Golden(path)
    golden.check_float32(golden.predict(structure, "float32", backend), structure)


@pytest.mark.parametrize(
    "key", ["allegro.tps.0.weights", "tensor_embed.env_embed_linear.mlp.0.weight", "edge_readout.mlp_module"]
)
@each_file
def test_a_missing_weight_is_named(path, key):
    golden = Golden(path)
    state = {name: value for name, value in golden.state.items() if key not in name}
    with pytest.raises(CheckpointError, match=key.replace(".", r"\.")):
        from_published(golden.config, state)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"radial_chemical_embed": {"_target_": "their.Chebyshev"}}, r"their\.Chebyshev"),
        ({"radial_chemical_embed": {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "knots": 3}}, "knots"),
        ({"weight_individual_irreps": False}, "weight_individual_irreps"),
        ({"pair_potential": {"_target_": "their.LJ", "chemical_species": ["H", "C", "O"]}}, r"their\.LJ"),
    ],
)
def test_an_option_that_we_lack_is_named(changes, named):
    golden = Golden(GOLDEN[0])
    with pytest.raises(CheckpointError, match=named):
        from_published(golden.config | changes, golden.state)


def test_an_option_of_theirs_with_the_only_value_that_we_have_is_taken():
    golden = Golden(GOLDEN[0])
    golden.config["weight_individual_irreps"] = True
    golden.check_float64(golden.predict("dimer", "float64"), "dimer")


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        ("num_tensor_features", r"tps\.0\.weights' are \(184,\), but .* asks for \(368,\)"),
        ("scalar_embed_mlp_hidden_layers_width", r"scalar_embed_mlp.*\(24, 64\)"),
        ("allegro_mlp_hidden_layers_width", r"latents\.0.*\(32, 64\)"),
    ],
)
def test_what_their_configuration_leaves_out_has_their_default(left_out, named):
    golden = Golden(GOLDEN[0])
    del golden.config[left_out]
    with pytest.raises(CheckpointError, match=named):
        from_published(golden.config, golden.state)


@pytest.mark.parametrize("path", GOLDEN[1:], ids=lambda path: path.stem)
def test_weights_of_another_shape_are_named(path):
    golden = Golden(path)
    golden.state = {
        key: value[:1] if "tps.0.weights" in key else value for key, value in golden.state.items()
    }
    with pytest.raises(CheckpointError, match=r"tps\.0\.weights"):
        from_published(golden.config, golden.state)
