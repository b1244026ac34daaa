"""Training in stages: other weights and another learning rate from an epoch on, and the best chosen anew."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from nequip.train.run import run_training

# Forces alone, then energies alone: their losses differ by orders of magnitude.
SECOND = {"epoch": 2, "weights": {"energy": 1000.0, "forces": 0.0}, "lr": 1e-5}
PLATEAU = {"name": "ReduceLROnPlateau", "params": {"patience": 0, "factor": 0.5, "threshold": 0.9}}


def staged(*stages: dict[str, Any], **train: Any) -> dict[str, Any]:
    loss = {"energy": {"weight": 0.0}, "schedule": list(stages)}
    return {"loss": loss, "optimizer": {"name": "SGD", "lr": 1e-3}, **train}


def column(folder: Path, name: str) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("scheduler", [None, {"name": "ExponentialLR", "params": {"gamma": 0.5}}, PLATEAU])
def test_the_second_stage_holds_its_learning_rate(make_config, scheduler):
    folder = run_training(make_config(train=staged(SECOND, scheduler=scheduler))).output_dir
    assert column(folder, "lr")[0] > 1e-5
    assert column(folder, "lr")[2:] == [1e-5, 1e-5]


def test_validation_takes_the_weights_of_its_stage(make_config):
    folder = run_training(make_config(train=staged(SECOND))).output_dir
    loss, energy, forces = (column(folder, f"val/loss{name}") for name in ("", "_energy", "_forces"))
    assert loss[:2] == pytest.approx(forces[:2])
    assert loss[2:] == pytest.approx([1000 * value for value in energy[2:]])


def test_the_best_is_chosen_anew_in_the_second_stage(make_config):
    outcome = run_training(make_config(train=staged(SECOND)))
    losses = column(outcome.output_dir, "val/loss")
    assert min(losses[:2]) < min(losses[2:])  # and yet
    assert outcome.best_errors["epoch"] >= 3
    assert outcome.best_errors["val/loss"] == pytest.approx(min(losses[2:]))


def test_a_slide_is_judged_by_its_end_and_keeps_its_best(make_config):
    slide = {**SECOND, "interpolation": "linear", "epoch": 3}
    outcome = run_training(make_config(train=staged(slide)))
    losses = column(outcome.output_dir, "val/loss")
    assert losses == pytest.approx(
        [1000 * energy for energy in column(outcome.output_dir, "val/loss_energy")]
    )
    assert outcome.best_errors["val/loss"] == pytest.approx(min(losses))


def test_the_plateau_of_the_first_stage_is_forgotten_in_the_second(make_config):
    # any loss of the second stage is above those of the first, and would halve the learning rate at once
    second = {"epoch": 2, "weights": {"energy": 1000.0}}
    folder = run_training(make_config(train=staged(second, scheduler=PLATEAU))).output_dir
    assert column(folder, "lr") == [1e-3, 1e-3, 5e-4, 5e-4]


def test_early_stopping_waits_for_the_last_stage(make_config):
    stopping = {"patience": 1, "min_delta": 1e9}
    config = make_config(train=staged(SECOND, early_stopping=stopping), trainer={"max_epochs": 20})
    outcome = run_training(config)
    # the first validation of the stage is an improvement on none, the second is not
    assert (outcome.stopped, outcome.epochs) == ("early_stopping", 4)
