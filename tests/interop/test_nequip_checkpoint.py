"""Checkpoints of the published nequip: which model they hold, and which weights it infers with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nequip.errors import CheckpointError
from nequip.interop.archives import Record, read_torch_file
from nequip.interop.nequip_checkpoint import read_nequip_checkpoint
from nequip.interop.published import from_published

FILES = Path(__file__).parent / "files"


@pytest.fixture
def checkpoint() -> dict[str, Any]:
    """With moving averages, trained shifts and Bessel roots, and ZBL."""
    return read_torch_file(FILES / "nequip_ema.ckpt")


def model(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return checkpoint["hyper_parameters"]["model"]


def test_moving_averages_take_the_place_of_the_weights(checkpoint):
    state, averages = checkpoint["state_dict"], read_nequip_checkpoint(checkpoint)[1]
    raw = {key.removeprefix("model.sole_model."): value for key, value in state.items()}
    changed = [key for key, value in averages.items() if not np.array_equal(value, raw[key])]
    assert len(changed) == sum(key.startswith("ema.ema_weight") for key in state)


def test_weights_that_were_swapped_with_the_averages_are_taken_as_they_are(checkpoint):
    state = checkpoint["state_dict"]
    state["ema._extra_state"]["is_holding_ema_weights"] = False
    _, weights = read_nequip_checkpoint(checkpoint)
    key = "model.func.type_embed.embed_module.weight"
    assert np.array_equal(weights[key], state[f"model.sole_model.{key}"])


def test_averages_of_another_model_are_refused(checkpoint):
    del checkpoint["state_dict"]["ema.ema_weight_2"]
    with pytest.raises(CheckpointError, match="do not belong to the weights"):
        read_nequip_checkpoint(checkpoint)


def test_a_preset_is_filled_in(checkpoint):
    shape = {"num_layers", "l_max", "parity", "num_features", "radial_mlp_width"}
    given = {key: value for key, value in model(checkpoint).items() if key not in shape}
    checkpoint["hyper_parameters"]["model"] = {
        **given,
        "_target_": "nequip.model.PresetNequIPGNNModel",
        "preset": "m",
        "num_layers": 3,
    }
    config, _ = read_nequip_checkpoint(checkpoint)
    assert {key: config[key] for key in shape} == {
        "num_layers": 3,
        "l_max": 2,
        "parity": False,
        "num_features": (128, 64, 32),
        "radial_mlp_width": 128,
    }


def test_what_makes_a_model_faster_changes_nothing(checkpoint):
    plain, _ = read_nequip_checkpoint(checkpoint)
    modifiers = [{"modifier": "enable_CuEquivariance"}, {"modifier": "enable_OpenEquivariance"}]
    checkpoint["hyper_parameters"]["model"] = {
        "_target_": "nequip.model.modify",
        "model": model(checkpoint),
        "modifiers": modifiers,
    }
    assert read_nequip_checkpoint(checkpoint)[0] == plain


def test_a_model_without_derivatives_predicts_energies_only(checkpoint):
    inner = model(checkpoint)
    for number, name in enumerate(("enable", "disable")):  # stacked: the outer one is the last
        modifier = {"modifier": f"{name}_ForceStressOutput"}
        inner = {"_target_": "nequip.model.modify", "model": inner, "modifiers": [modifier]}
        checkpoint["hyper_parameters"]["model"] = inner
        config, state = read_nequip_checkpoint(checkpoint)
        assert from_published(config, state, backend="reference").card.energy_only == bool(number)


def test_scales_and_shifts_of_a_modified_model_are_in_the_card():
    config, state = read_nequip_checkpoint(read_torch_file(FILES / "nequip_modified.ckpt"))
    shifts = from_published(config, state, backend="reference").card.config["per_type_energy_shifts"]
    assert shifts == pytest.approx({"H": -1, "C": -20, "O": -3}, abs=0.5)  # carbon was given another


def omegaconf(value: Any) -> Any:
    """As OmegaConf's containers are pickled."""
    if isinstance(value, dict):
        content = {key: omegaconf(inner) for key, inner in value.items()}
        return Record("omegaconf.dictconfig.DictConfig", state={"_content": content})
    if isinstance(value, list):
        content = [omegaconf(inner) for inner in value]
        return Record("omegaconf.listconfig.ListConfig", state={"_content": content})
    return Record("omegaconf.nodes.AnyNode", state={"_val": value})


def test_containers_of_omegaconf_are_read(checkpoint):
    plain, _ = read_nequip_checkpoint(checkpoint)
    checkpoint["hyper_parameters"]["model"] = omegaconf(model(checkpoint))
    assert read_nequip_checkpoint(checkpoint)[0] == plain


def test_a_reference_is_followed_inside_the_file(checkpoint):
    checkpoint["hyper_parameters"]["info_dict"]["data"] = omegaconf({"cutoff": 4.25})
    model(checkpoint)["r_max"] = "${data.cutoff}"
    assert read_nequip_checkpoint(checkpoint)[0]["r_max"] == 4.25


def test_an_older_version_had_other_defaults_and_another_order_of_features():
    config, _ = read_nequip_checkpoint(read_torch_file(FILES / "nequip_0_7.ckpt"))
    assert (config["radial_mlp_depth"], config["radial_mlp_width"]) == (2, 64)
    assert config["hidden_irreps"] == ["2x0e+2x1e+2x2e+2x0o+2x1o+2x2o", "2x0e"]


def test_an_older_version_without_parity_called_all_features_even():
    config, _ = read_nequip_checkpoint(read_torch_file(FILES / "nequip_0_15_rotations.ckpt"))
    assert config["parity"] == "ignored"
    assert config["hidden_irreps"] == ["2x0e+2x1e+2x2e", "2x0e"]


def test_the_first_versions_of_allegro_are_refused():
    checkpoint = read_torch_file(FILES / "allegro_spline.ckpt")
    checkpoint["hyper_parameters"]["info_dict"]["versions"]["allegro"] = "0.4.0"
    with pytest.raises(CheckpointError, match=r"before 0\.5"):
        read_nequip_checkpoint(checkpoint)


REFUSED = {
    "a reference out of the file": (
        {"avg_num_neighbors": "${training_data_stats:num_neighbors_mean}"},
        "not in the file",
    ),
    "a reference to nothing": ({"r_max": "${data.nothing}"}, "data.nothing"),
    "an object": ({"r_max": Record("pathlib.PosixPath")}, "pathlib.PosixPath, which is no plain value"),
    "another builder": (
        {"_target_": "nequip.model.FullNequIPGNNModel"},
        "FullNequIPGNNModel, which we do not have",
    ),
    "another file": (
        {"_target_": "nequip.model.ModelFromCheckpoint", "checkpoint_path": "base.ckpt"},
        "taken from base.ckpt",
    ),
    "another modification": (
        {
            "_target_": "nequip.model.modify",
            "model": {"_target_": "nequip.model.NequIPGNNModel"},
            "modifiers": [{"modifier": "add_LoRA"}],
        },
        "modified by add_LoRA",
    ),
}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_we_cannot_follow_is_named(checkpoint, changes, words):
    model(checkpoint).update(changes)
    with pytest.raises(CheckpointError, match=words):
        read_nequip_checkpoint(checkpoint)


def test_lists_that_hold_each_other_end(checkpoint):
    endless: list[Any] = []
    for _ in range(60):
        endless = [endless, endless]
    model(checkpoint)["num_features"] = endless
    with pytest.raises(CheckpointError, match="has no end"):
        read_nequip_checkpoint(checkpoint)


def test_weights_of_a_schedule_free_optimizer_are_refused(checkpoint):
    checkpoint["schedulefree_optimizer_state_dict"] = {}
    with pytest.raises(CheckpointError, match="schedule-free"):
        read_nequip_checkpoint(checkpoint)


def test_a_checkpoint_of_several_models_is_refused(checkpoint):
    checkpoint["state_dict"] = {
        key.replace("sole_model", "teacher"): value for key, value in checkpoint["state_dict"].items()
    }
    with pytest.raises(CheckpointError, match="no weights of a single model"):
        read_nequip_checkpoint(checkpoint)
