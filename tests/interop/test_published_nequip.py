"""Same weights, same numbers: golden outputs of the published NequIP."""

from __future__ import annotations

import pytest
import torch
from golden_files import STRUCTURES, Golden, golden_files

from nequip.errors import CheckpointError, ModelError
from nequip.interop import from_published

GOLDEN = golden_files("nequip")


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_float64_agrees_to_1e_10(path, structure, backend):
    golden = Golden(path)
    golden.check_float64(golden.predict(structure, "float64", backend), structure)


@pytest.mark.parametrize(("backend", "tables"), [("reference", False), ("cpu", False), ("cpu", True)])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_float32_agrees_to_5e_5_relative(path, structure, backend, tables):
    golden = Golden(path)
    golden.check_float32(golden.predict(structure, "float32", backend, tables=tables), structure)


def test_wrapper_prefixes_are_stripped():
    golden = Golden(GOLDEN[0])
    golden.state = {
        f"training_module.sole_model.model.func.{key.removeprefix('model.func.')}": value
        for key, value in golden.state.items()
    }
    expected = golden.expected("ethanol")["forces"]
    torch.testing.assert_close(golden.predict("ethanol", "float64").forces, expected, atol=1e-10, rtol=0)


def test_a_missing_weight_is_named():
    golden = Golden(GOLDEN[0])
    del golden.state["model.func.layer1_convnet.conv.sc.weight"]
    with pytest.raises(CheckpointError, match=r"layer1_convnet\.conv\.sc\.weight"):
        golden.predict("ethanol", "float64")


def test_an_unknown_architecture_is_named():
    with pytest.raises(CheckpointError, match="did you mean 'nequip'"):
        from_published({"architecture": "nequipp"}, {})


def test_an_unknown_pair_potential_is_named():
    golden = Golden(GOLDEN[0])
    golden.config["pair_potential"] = {"_target_": "their.LJ", "chemical_species": ["H", "C", "O"]}
    with pytest.raises(CheckpointError, match=r"their\.LJ"):
        golden.predict("ethanol", "float64")


def test_an_option_that_we_lack_is_named():
    golden = Golden(GOLDEN[0])
    golden.config["convnet_resnet"] = True
    with pytest.raises(CheckpointError, match="convnet_resnet"):
        golden.predict("ethanol", "float64")


def test_the_dtype_may_be_a_name_or_torch_s_own_or_the_one_in_the_configuration():
    golden = Golden(GOLDEN[0])
    for dtype, expected in ((torch.float32, "float32"), ("float64", "float64"), (None, "float64")):
        assert from_published(golden.config, golden.state, dtype=dtype).card.dtype == expected
    with pytest.raises(ModelError, match="float16"):
        from_published(golden.config, golden.state, dtype=torch.float16)
