"""Same weights, same numbers: golden outputs of the published NequIP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nequip.data.frame import Frame
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import CheckpointError, ModelError
from nequip.interop import from_published
from nequip.kernels.backend import Backend
from nequip.nn.derivatives import Prediction

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("nequip_*.npz"))
STRUCTURES = ["ethanol", "triclinic", "slab", "dimer"]


class Golden:
    """One golden file, taken apart."""

    def __init__(self, path: Path):
        self.arrays = dict(np.load(path))
        self.config: dict[str, Any] = json.loads(str(self.arrays["config"]))
        self.state = {
            key.removeprefix("state/"): v for key, v in self.arrays.items() if key.startswith("state/")
        }

    def predict(
        self, structure: str, dtype: str, backend: Backend = "auto", *, tables: bool = False
    ) -> Prediction:
        potential = from_published(self.config, self.state, dtype, backend)
        if tables:
            potential.tabulate_radial()
        part = {
            key: self.arrays[f"struct/{structure}/{key}"] for key in ("numbers", "positions", "cell", "pbc")
        }
        frame = Frame(part["numbers"], part["positions"], part["cell"], tuple(bool(x) for x in part["pbc"]))
        return potential(build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs))

    def expected(self, structure: str) -> dict[str, torch.Tensor]:
        names = {"energy": "total_energy", "atomic_energies": "atomic_energy"}
        names |= {key: key for key in ("forces", "stress", "virial")}
        return {
            ours: torch.from_numpy(self.arrays[f"out/{structure}/{theirs}"]) for ours, theirs in names.items()
        }


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_float64_agrees_to_1e_10(path, structure, backend):
    golden = Golden(path)
    prediction = golden.predict(structure, "float64", backend)._asdict()
    for name, expected in golden.expected(structure).items():
        actual = prediction[name].reshape(expected.shape)
        torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-12, equal_nan=True, msg=name)


@pytest.mark.parametrize(("backend", "tables"), [("reference", False), ("cpu", False), ("cpu", True)])
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_float32_agrees_to_5e_5_relative(path, structure, backend, tables):
    golden = Golden(path)
    prediction = golden.predict(structure, "float32", backend, tables=tables)._asdict()
    for name, expected in golden.expected(structure).items():
        actual = prediction[name].reshape(expected.shape)
        scale = float(expected.nan_to_num().abs().max())
        error = float((actual - expected).nan_to_num().abs().max())
        assert error <= 5e-5 * scale, f"{name}: {error} of {scale}"
        assert torch.equal(actual.isnan(), expected.isnan())


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
