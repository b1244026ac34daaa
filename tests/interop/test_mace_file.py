"""Whole models of mace-torch: their configuration follows from their structure."""

from __future__ import annotations

from pathlib import Path

import pytest

from nequip.errors import CheckpointError
from nequip.interop.archives import Global, Record, read_torch_file
from nequip.interop.archives.modules import attributes, find, walk
from nequip.interop.mace_file import is_mace, read_mace

FILES = Path(__file__).parent / "files"


@pytest.fixture
def model() -> Record:
    return read_torch_file(FILES / "mace_two_heads.model")


def test_the_configuration_is_the_one_that_the_model_was_made_with(model):
    assert is_mace(model)
    assert read_mace(model)[0] == {
        "architecture": "mace",
        "class": "ScaleShiftMACE",
        "model_dtype": "float64",
        "r_max": 4.0,
        "atomic_numbers": [1, 6, 8],
        "num_interactions": 2,
        "first": "RealAgnosticDensityInteractionBlock",
        "rest": "RealAgnosticDensityResidualInteractionBlock",
        "hidden_irreps": "2x0e",
        "max_ell": 2,
        "avg_num_neighbors": 9.5,
        "correlation": [2, 2],
        "num_bessel": 4,
        "radial_mlp": [16, 16],
        "radial_type": "bessel",
        "num_polynomial_cutoff": 5,
        "pair_repulsion": True,
        "distance_transform": "Agnesi",
        "MLP_irreps": "4x0e",
        "gate": "silu",
        "scale": [0.7, 1.3],
        "shift": [0.1, -0.2],
        "heads": ["dft", "cc"],
    }


def test_coupling_coefficients_come_out_of_the_compiled_programs():
    _, state = read_mace(read_torch_file(FILES / "mace_small.model"))
    assert state["interactions.1.conv_tp._compiled_main_left_right._w3j_1_1_2"].shape == (3, 3, 5)


def test_without_them_a_model_with_vectors_is_refused():
    model = read_torch_file(FILES / "mace_small.model")
    attributes(find(model, "interactions.1.conv_tp"))["__codegen__"] = {}
    with pytest.raises(CheckpointError, match="no coupling coefficients"):
        read_mace(model)


def test_a_gate_that_is_an_attribute_of_torch_s_functions_is_known_by_name(model):
    functions = Global("torch._C._VariableFunctionsClass")
    gate = find(model, "readouts.1.non_linearity.acts.0")
    attributes(gate)["f"] = Record("builtins.getattr", (functions, "tanh"))
    assert read_mace(model)[0]["gate"] == "tanh"


def test_a_block_that_we_do_not_have_is_named_with_its_place(model):
    find(model, "interactions.1").maker = "mace.modules.blocks.RealAgnosticResidualNonLinearInteractionBlock"
    with pytest.raises(CheckpointError, match=r"interactions\.1 is a RealAgnosticResidualNonLinear"):
        read_mace(model)


def test_a_model_that_we_do_not_have_is_named(model):
    model.maker = "mace.modules.models.AtomicDipolesMACE"
    with pytest.raises(CheckpointError, match="AtomicDipolesMACE"):
        read_mace(model)


@pytest.mark.parametrize(
    ("key", "value"), [("use_so3", True), ("apply_cutoff", False), ("edge_irreps", Record("e3nn.o3.Irreps"))]
)
def test_an_option_that_we_do_not_have_is_named(model, key, value):
    attributes(model)[key] = value
    with pytest.raises(CheckpointError, match=key):
        read_mace(model)


def test_weights_laid_out_for_cuequivariance_are_refused(model):
    attributes(find(model, "products.0"))["cueq_config"] = Record(
        "mace.modules.wrapper_ops.CuEquivarianceConfig"
    )
    with pytest.raises(CheckpointError, match="mace_cueq_to_e3nn"):
        read_mace(model)


def test_files_of_older_versions_name_no_heads():
    model = read_torch_file(FILES / "mace_small.model")
    expected = read_mace(model)[0]
    for key in ("heads", "apply_cutoff", "use_so3", "use_agnostic_product", "edge_irreps"):
        del attributes(model)[key]
    assert read_mace(model)[0] == expected


def test_modules_that_hold_each_other_end(model):
    attributes(model)["_modules"]["again"] = model
    with pytest.raises(CheckpointError, match="without end"):
        list(walk(model))
