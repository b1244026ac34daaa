"""A run that is interrupted and resumed equals, bit for bit, the run that was not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from interrupted_runs import assert_same_run, press_ctrl_c, rows

from nequip.errors import CheckpointError, ConfigError
from nequip.train.callbacks.stop import TrainingInterrupted
from nequip.train.checkpointing import load_checkpoint
from nequip.train.run import run_training

# Everything that a resumed run could forget: schedulers of every kind, noise, budgets, clipping.
VARIANTS: dict[str, dict[str, Any]] = {
    "plateau": {
        "train": {
            "scheduler": {"name": "ReduceLROnPlateau", "params": {"patience": 0, "threshold": 0.1}},
            "early_stopping": {"patience": 3, "min_delta": 0.2},
        }
    },
    "cosine": {"train": {"scheduler": {"name": "CosineAnnealingLR", "params": {"T_max": 4}}}},
    "one_cycle": {
        "train": {
            "scheduler": {
                "name": "OneCycleLR",
                "interval": "step",
                "params": {"max_lr": 0.1, "total_steps": 100},
            },
            "gradient_clip": 0.1,
        }
    },
    "noise": {"model": {"noise": 0.3}, "train": {"ema_decay": None}},
    "loss_schedule": {
        "train": {
            "loss": {
                "schedule": [{"epoch": 3, "weights": {"forces": 10.0}, "interpolation": "linear"}],
            },
            "optimizer": {"name": "SGD", "lr": 0.01, "params": {"momentum": 0.9}},
        }
    },
    "two_stages": {
        "train": {
            "loss": {"schedule": [{"epoch": 2, "weights": {"forces": 10.0}, "lr": 1e-3}]},
            "scheduler": {"name": "ExponentialLR", "params": {"gamma": 0.9}},
        }
    },
    "frozen": {"train": {"freeze": ["depth"]}},
    "budget": {"data": {"batch": {"max_atoms": 13}}},
    "workers": {"data": {"num_workers": 1}},
    "nequip": {
        "model": {"name": "nequip", "num_layers": 2, "l_max": 1, "num_features": 4, "radial_mlp_width": 8},
        "train": {"optimizer": {"params": {"amsgrad": True}}},
    },
    "validation_every_second_epoch": {"trainer": {"check_val_every_n_epoch": 2}},
}


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    both = {**base, **more}
    for name in base.keys() & more.keys():
        if isinstance(base[name], dict):
            both[name] = merged(base[name], more[name])
    return both


@pytest.fixture(scope="module")
def whole_runs() -> dict[str, Path]:
    """Output folders of uninterrupted runs by variant, filled as tests ask for them."""
    return {}


@pytest.fixture
def whole(make_config, whole_runs, tmp_path_factory):
    def run(variant: str) -> Path:
        if variant not in whole_runs:
            folder = tmp_path_factory.mktemp("whole") / "run"
            whole_runs[variant] = run_training(
                make_config(**VARIANTS[variant], output_dir=str(folder))
            ).output_dir
        return whole_runs[variant]

    return run


@pytest.fixture
def resumed(make_config):
    """The output folder of a run that Ctrl-C stopped in the steps given."""

    def run(variant: str, *steps: int, **options: Any) -> Path:
        changes = {**VARIANTS[variant], "resume": "auto"}
        for step in steps:
            with pytest.raises(TrainingInterrupted):
                run_training(make_config(**changes, extensions=press_ctrl_c(step, **options)))
        return run_training(make_config(**changes)).output_dir

    return run


@pytest.mark.parametrize("step", [7, 8, 12, 13])  # first, second, last but one, last of an epoch of 7
def test_resume_after_ctrl_c_in_any_batch_of_an_epoch(whole, resumed, step):
    assert_same_run(whole("noise"), resumed("noise", step))


@pytest.mark.parametrize("variant", VARIANTS)
def test_resume_in_mid_epoch_keeps_every_kind_of_state(whole, resumed, variant):
    assert_same_run(whole(variant), resumed(variant, 10))


def test_resume_after_several_interruptions(whole, resumed):
    assert_same_run(whole("noise"), resumed("noise", 2, 4, 16))


def test_ctrl_c_in_validation_stops_after_the_epoch(whole, resumed):
    assert_same_run(whole("plateau"), resumed("plateau", 14, hook="on_validation_batch_start"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_longer_run_goes_on_from_a_shorter_one(make_config, whole, variant):
    for epochs in (2, 4):
        longer = merged(VARIANTS[variant], {"resume": "auto", "trainer": {"max_epochs": epochs}})
        outcome = run_training(make_config(**longer))
    assert_same_run(whole(variant), outcome.output_dir)


def test_resume_from_an_earlier_epoch_drops_the_rows_after_it(make_config):
    slow = {"train": {"optimizer": {"lr": 1e-3}}}
    folder = run_training(make_config(**slow, trainer={"max_epochs": 2})).output_dir
    earlier = str(shutil.copy(folder / "best.ckpt", folder / "earlier.ckpt"))
    run_training(make_config(**slow, resume="auto"))
    run_training(make_config(**slow, resume=earlier, trainer={"max_epochs": 3}))
    assert [row["epoch"] for row in rows(folder / "metrics.csv")] == ["1", "2", "3"]


def test_a_second_ctrl_c_stops_at_once_and_keeps_the_last_epoch(make_config):
    config = make_config(extensions=press_ctrl_c(10, times=2))
    with pytest.raises(TrainingInterrupted, match="resume=auto") as caught:
        run_training(config)
    assert caught.value.exit_code == 130
    assert load_checkpoint(Path(config.output_dir) / "last.ckpt")["training"]["position"] == (1, 0)


def test_a_run_is_never_written_over(make_config):
    run_training(make_config())
    with pytest.raises(ConfigError, match=r"already holds a run: say resume=auto"):
        run_training(make_config())


def test_another_model_is_refused(make_config):
    run_training(make_config())
    with pytest.raises(CheckpointError, match=r"r_max"):
        run_training(make_config(model={"r_max": 3.9}, resume="auto"))


def test_other_data_in_mid_epoch_are_refused(make_config):
    with pytest.raises(TrainingInterrupted):
        run_training(make_config(extensions=press_ctrl_c(10)))
    with pytest.raises(CheckpointError, match="mid-epoch"):
        run_training(make_config(data={"batch": {"size": 4}}, resume="auto"))
