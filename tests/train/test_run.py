"""Whole runs of training on a tiny potential: what they leave, how they end, what they refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from nequip.config.validate import validate
from nequip.data.graph import collate
from nequip.errors import CheckpointError, ConfigError
from nequip.model.checkpoint import load
from nequip.train.checkpointing import load_checkpoint
from nequip.train.evaluation import evaluate
from nequip.train.fit import parse_duration
from nequip.train.run import run_training

FILES = {
    *("best.ckpt", "best.nequip", "best_raw.nequip", "last.ckpt", "last.nequip", "last_raw.nequip"),
    *("config.yaml", "metrics.csv", "statistics.json", "steps.csv"),
}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def outcome(make_config):
    return run_training(make_config())


def test_a_run_leaves_its_files_and_no_others(outcome):
    assert {path.name for path in outcome.output_dir.iterdir()} == FILES


def test_the_loss_falls(outcome):
    losses = [float(row["val/loss"]) for row in rows(outcome.history)]
    assert losses == sorted(losses, reverse=True)


def test_the_table_begins_with_what_a_person_looks_for(outcome):
    row = rows(outcome.history)[-1]
    assert list(row)[:6] == ["epoch", "step", "time", "lr", "train/loss", "val/loss"]
    assert (row["epoch"], row["step"]) == ("4", "28")


def test_steps_are_written_at_their_interval(outcome):
    assert [row["step"] for row in rows(outcome.output_dir / "steps.csv")] == [
        str(n) for n in range(2, 29, 2)
    ]


def test_the_saved_configuration_holds_no_auto_and_gives_the_same_run(outcome, make_config):
    import yaml

    tree = yaml.safe_load((outcome.output_dir / "config.yaml").read_text())
    assert "auto" not in (tree["model"]["avg_num_neighbors"], tree["model"]["type_names"])
    again = run_training(validate(tree | {"output_dir": str(outcome.output_dir.parent / "again")}))
    assert again.best_errors["val/loss"] == outcome.best_errors["val/loss"]


def test_the_statistics_are_saved_as_numbers(outcome):
    statistics = json.loads((outcome.output_dir / "statistics.json").read_text())
    assert statistics["num_frames"] == 20


@pytest.mark.parametrize("name", ["best", "last"])
def test_saved_potentials_hold_average_and_raw_weights(outcome, name):
    state = load_checkpoint(outcome.output_dir / f"{name}.ckpt")["state_dict"]
    average, raw = (load(outcome.output_dir / f"{name}{suffix}.nequip") for suffix in ("", "_raw"))
    assert (average.card.training.weights, raw.card.training.weights) == ("ema", "raw")
    assert torch.equal(average.depth, state["average.potential.depth"])
    assert torch.equal(raw.depth, state["potential.depth"])
    assert not torch.equal(raw.depth, average.depth)


def test_the_errors_on_the_card_are_those_of_its_weights(outcome):
    card = load(outcome.best).card
    measured = evaluate(load(outcome.best), outcome.data.val).errors
    told = {name.removeprefix("val/"): error for name, error in card.training.errors.items()}
    assert {name: told[name] for name in measured} == pytest.approx(measured, rel=1e-6)
    assert (card.training.num_train, card.training.num_val) == (20, 10)


def test_without_an_average_both_files_hold_the_raw_weights(make_config):
    outcome = run_training(make_config(train={"ema_decay": None}))
    best, raw = load(outcome.best), load(outcome.output_dir / "best_raw.nequip")
    assert best.card.training == raw.card.training
    assert torch.equal(best.depth, raw.depth)


def test_training_on_energies_alone_takes_no_derivatives_but_keeps_them_in_the_file(make_config):
    outcome = run_training(make_config(train={"loss": {"forces": None}}))
    assert not [name for name in outcome.best_errors if "forces" in name]
    graph = collate([outcome.data.val[0]])
    assert load(outcome.best)(graph).forces is not None


def test_a_run_without_validation_frames_monitors_training(make_config):
    outcome = run_training(
        make_config(data={"split": {"train": 20, "val": 0}}, train={"monitor": "train/loss"})
    )
    assert "val/loss" not in outcome.best_errors
    assert outcome.best.is_file()


def test_early_stopping_ends_the_run(make_config):
    stopping = {"patience": 2, "min_delta": 10.0}
    outcome = run_training(make_config(train={"early_stopping": stopping}, trainer={"max_epochs": 50}))
    assert (outcome.stopped, outcome.epochs) == ("early_stopping", 3)


def test_a_small_learning_rate_ends_the_run(make_config):
    train = {
        "scheduler": {"name": "ExponentialLR", "params": {"gamma": 0.1}},
        "early_stopping": {"min_lr": 5e-4},
    }
    outcome = run_training(make_config(train=train, trainer={"max_epochs": 50}))
    assert (outcome.stopped, outcome.epochs) == ("early_stopping", 2)


def test_max_time_ends_the_run_between_two_batches_with_everything_saved(make_config):
    outcome = run_training(make_config(trainer={"max_time": "00:00:00:00"}))
    assert (outcome.stopped, outcome.best) == ("max_time", outcome.last)
    assert load_checkpoint(outcome.output_dir / "last.ckpt")["training"]["position"] == (0, 1)


def test_a_run_that_is_complete_resumes_to_the_same_outcome(make_config, outcome):
    again = run_training(make_config(resume="auto"))
    assert (again.best_errors, again.epochs) == (outcome.best_errors, outcome.epochs)


def test_batches_of_a_budget_are_all_trained_on_in_every_epoch(make_config):
    # Their number differs between epochs.
    logging = {"every_n_steps": 1, "progress": "off"}
    trainer = {"max_epochs": 6, "logging": logging}
    outcome = run_training(make_config(data={"batch": {"max_atoms": 13}}, trainer=trainer))
    steps = rows(outcome.output_dir / "steps.csv")
    counts = [sum(row["epoch"] == str(epoch) for row in steps) for epoch in range(1, 7)]
    assert len(set(counts)) > 1
    assert all(row["val/loss"] for row in rows(outcome.history))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": {"monitor": "val/los"}}, r"train.monitor is 'val/los' \(did you mean 'val/loss'\?\)"),
        ({"train": {"optimizer": {"name": "Adamm"}}}, "did you mean 'Adam"),
        ({"train": {"early_stopping": {"monitor": "loss"}}}, "train.early_stopping.monitor"),
        ({"trainer": {"strategy": "no_such"}}, "trainer: .*no_such"),
        ({"trainer": {"check_val_every_n_epoch": 9}}, "no epoch would be validated"),
        ({"trainer": {"devices": 2, "strategy": "ddp_spawn"}}, "several processes train with ddp"),
        ({"extensions": {"modules": ["no_such_module"]}}, "extensions.modules names 'no_such_module'"),
        ({"extensions": {"callbacks": [{"step": 1}]}}, "needs a _target_"),
        ({"extensions": {"callbacks": [{"_target_": "saboteurs.PressCtrlc"}]}}, "did you mean 'PressCtrlC'"),
        ({"extensions": {"callbacks": [{"_target_": "saboteurs.PressCtrlC"}]}}, "cannot be built with"),
        ({"extensions": {"callbacks": [{"_target_": "saboteurs.NotACallback"}]}}, "is no Lightning callback"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(make_config, changes, sentence):
    config = make_config(**changes)
    with pytest.raises(ConfigError, match=sentence):
        run_training(config)
    assert not Path(config.output_dir).exists()


def test_a_checkpoint_is_read_before_anything_is_written(make_config, tmp_path):
    config = make_config(resume=str(tmp_path / "missing.ckpt"))
    with pytest.raises(CheckpointError, match="no checkpoint"):
        run_training(config)
    assert not Path(config.output_dir).exists()


def test_a_checkpoint_of_another_model_leaves_the_inputs_of_its_run_alone(make_config, outcome):
    before = (outcome.output_dir / "config.yaml").read_bytes()
    with pytest.raises(CheckpointError, match="r_max"):
        run_training(make_config(resume="auto", model={"r_max": 2.5}))
    assert (outcome.output_dir / "config.yaml").read_bytes() == before


@pytest.mark.parametrize(
    "changes", [{"ema_decay": None}, {"optimizer": {"name": "SGD"}}, {"optimizer": {"lr": 0.5}}]
)
def test_a_checkpoint_of_another_training_is_refused(make_config, outcome, changes):
    with pytest.raises(CheckpointError, match="of the training, this run has"):
        run_training(make_config(resume="auto", train=changes))


def test_fewer_epochs_than_are_done_are_refused(make_config, outcome):
    with pytest.raises(ConfigError, match=r"has done \d+ epochs, and trainer.max_epochs is 1"):
        run_training(make_config(resume="auto", trainer={"max_epochs": 1}))


def test_extension_modules_are_imported_before_the_model_is_built(make_config, tiny_package):
    (tiny_package / "an_extension.py").write_text("import sys\nsys.an_extension_was_here = True\n")
    run_training(make_config(extensions={"modules": ["an_extension"]}))
    import sys

    assert sys.an_extension_was_here


@pytest.mark.parametrize(("text", "seconds"), [(None, None), ("00:00:30:00", 1800), ("01:02:03:04", 93784)])
def test_durations_are_days_hours_minutes_seconds(text, seconds):
    assert parse_duration(text) == seconds
