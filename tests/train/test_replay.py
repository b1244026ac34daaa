"""Older frames beside the new ones: what is not forgotten, and which readout learns what."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from taught_frames import crystal, saved, taught, teacher

from nequip.config.schema import RunConfig
from nequip.data.graph import collate
from nequip.errors import DataError
from nequip.model.checkpoint import load
from nequip.model.potential import Potential
from nequip.train.evaluation import evaluate
from nequip.train.run import TrainingOutcome, run_training

CONSTANTS = {"H": -13.6, "Cu": -1650.0}
OLD = [crystal(index) for index in range(100, 130)]
NEW = [crystal(index, spacing=2.2) for index in range(20)]


@pytest.fixture
def replaying(make_config, tmp_path: Path):
    """A run that goes on from `start` with new frames of `other`, and old frames of `start` beside them."""

    def configure(start: Potential, other: Potential, **changes: Any) -> RunConfig:
        start.save(tmp_path / "start.nequip")
        replay = {
            "file": saved(taught(OLD, start), tmp_path / "old.xyz"),
            "val": 10,
            **changes.pop("replay", {}),
        }
        new = saved(taught(NEW, other, CONSTANTS), tmp_path / "new.xyz")
        data = {"file": new, "split": {"val": 6}, "replay": replay, **changes.pop("data", {})}
        model = {"file": str(tmp_path / "start.nequip"), **changes.pop("model", {})}
        return make_config(data=data, model=model, **changes)

    return configure


def rows(outcome: TrainingOutcome) -> list[dict[str, str]]:
    with outcome.history.open(newline="") as file:
        return list(csv.DictReader(file))


LEARNING = {"train": {"optimizer": {"lr": 0.02}, "ema_decay": None}, "trainer": {"max_epochs": 12}}


def test_replay_keeps_what_the_potential_knew(replaying, tmp_path):
    start, other = teacher("nequip"), teacher("nequip", seed=3)
    with_replay = run_training(replaying(start, other, **LEARNING))
    held_out = with_replay.data.replay.val
    config = replaying(start, other, output_dir=str(tmp_path / "plain"), **LEARNING)
    plain = run_training(config.model_copy(update={"data": config.data.model_copy(update={"replay": None})}))
    remembered, forgotten = (
        evaluate(load(outcome.last), held_out).errors["forces_mae"] for outcome in (with_replay, plain)
    )
    assert remembered < 0.6 * forgotten


def test_a_head_of_its_own_learns_the_new_data_and_the_old_head_keeps_the_old(replaying):
    start, other = teacher("mace", heads=("dft",)), teacher("mace", heads=("dft",), seed=3)
    outcome = run_training(replaying(start, other, model={"head": "cc"}, **LEARNING))
    potential = load(outcome.best)
    assert potential.heads == ("cc", "dft")
    first, last = rows(outcome)[0], rows(outcome)[-1]
    for part in ("val", "replay"):
        assert float(last[f"{part}/forces_mae"]) < float(first[f"{part}/forces_mae"])
    # asked by default, the head of the new data: constants of 1650 eV tell them apart
    graph = outcome.data.val[0]
    assert graph.head.item() == 0
    assert potential(graph).energy.item() == pytest.approx(graph.labels.energy.item(), abs=10)


def test_every_frame_asks_its_readout(replaying):
    start = teacher("mace", heads=("pbe", "dft"))
    data = run_training(
        replaying(start, start, model={"head": "cc"}, replay={"weight": 0.5}, trainer={"max_epochs": 1})
    ).data
    assert [data.train[0].head.item(), data.val[0].head.item(), data.replay.train[0].head.item()] == [0, 0, 1]
    assert [data.train[0].labels.weight.item(), data.replay.train[0].labels.weight.item()] == [1.0, 0.5]


@pytest.mark.parametrize(("head", "first"), [("dft", ("dft", "pbe")), (None, ("pbe", "dft"))])
def test_a_head_that_is_there_may_be_trained(replaying, head, first):
    start = teacher("mace", heads=("pbe", "dft"))
    config = replaying(start, start, model={"head": head}, replay={"head": "pbe"}, trainer={"max_epochs": 1})
    assert load(run_training(config).last).heads == first


def test_the_old_head_keeps_its_shifts(replaying):
    start = teacher("mace", heads=("dft",), per_type_energy_shifts={"H": 1.0, "Cu": 2.0})
    outcome = run_training(replaying(start, start, model={"head": "cc"}, trainer={"max_epochs": 1}))
    new, old = load(outcome.best).energy_shifts.tolist()
    assert old == [1.0, 2.0]
    assert new == pytest.approx([1.0 - 13.6, 2.0 - 1650.0])


def test_energies_of_replay_frames_move_with_the_shifts_of_the_readout_they_share(replaying):
    start = teacher("nequip")
    data = run_training(replaying(start, start, trainer={"max_epochs": 1})).data
    graph = collate([data.replay.train[0]])
    expected = start(graph).energy.item() + sum(
        CONSTANTS[start.card.type_names[index]] for index in graph.types.tolist()
    )
    assert graph.labels.energy.item() == pytest.approx(expected, abs=1e-8)


def test_replay_is_reported_beside_validation_and_on_the_card(replaying):
    start = teacher("nequip")
    outcome = run_training(replaying(start, start, trainer={"max_epochs": 1}))
    (row,) = rows(outcome)
    measured = evaluate(load(outcome.last), outcome.data.replay.val).errors
    assert float(row["replay/forces_mae"]) == pytest.approx(measured["forces_mae"])
    assert load(outcome.last).card.training.errors["replay/forces_mae"] == pytest.approx(
        measured["forces_mae"]
    )


def test_replay_may_be_monitored(replaying):
    start = teacher("nequip")
    config = replaying(start, start, train={"monitor": "replay/forces_mae"}, trainer={"max_epochs": 1})
    assert "replay/forces_mae" in run_training(config).best_errors


def test_an_epoch_takes_as_many_replay_frames_as_asked(replaying):
    start = teacher("nequip")
    outcome = run_training(replaying(start, start, replay={"ratio": 0.5}, trainer={"max_epochs": 2}))
    assert [row["step"] for row in rows(outcome)] == ["7", "14"]  # 14 new and 7 old frames, 3 at a time


def test_two_files_may_train_a_fresh_potential_of_two_heads(make_config, tmp_path):
    potential = teacher("mace")
    old, new = (
        saved(taught(frames, potential), tmp_path / f"{name}.xyz")
        for name, frames in (("old", OLD), ("new", NEW))
    )
    model = {"name": "mace", "r_max": 4.0, "heads": ["new", "old"], "hidden_irreps": "4x0e", "l_max": 1}
    data = {"file": new, "split": {"val": 6}, "replay": {"file": old, "head": "old"}}
    outcome = run_training(make_config(data=data, model=model, trainer={"max_epochs": 1}))
    assert outcome.data.replay.train[0].head.item() == 1
    assert torch.isfinite(torch.tensor(outcome.best_errors["val/loss"]))


def test_replay_frames_hold_only_what_the_potential_knew(replaying, tmp_path):
    other = teacher("nequip", type_names=("H", "Cu", "O"))
    frames = saved(taught([crystal(0, ["O"]), *NEW], other), tmp_path / "others.xyz")
    start = teacher("nequip")
    config = replaying(start, start, data={"replay": {"file": frames}})
    with pytest.raises(DataError, match=r"the replay frames .* hold O"):
        run_training(config)
