"""Potentials that go on to learn other data: their weights, new elements, energies of another method."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ase import Atoms
from interrupted_runs import assert_same_run, press_ctrl_c
from taught_frames import SHAPES, crystal, saved, taught, teacher

from nequip.config.schema import RunConfig
from nequip.config.validate import validate
from nequip.errors import ConfigError, DataError
from nequip.model.checkpoint import load
from nequip.model.potential import Potential
from nequip.train.callbacks.stop import TrainingInterrupted
from nequip.train.evaluation import evaluate
from nequip.train.finetune import Adapted, adapt, load_start
from nequip.train.prepare import PreparedData, prepare_data
from nequip.train.run import run_training

CONSTANTS = {"H": -13.6, "Cu": -1650.0}
LOSS = {"energy": {}, "forces": {}}


@pytest.fixture
def finetuning(make_config, tmp_path: Path):
    """A run that goes on from a potential with frames of its own."""

    def configure(start: Potential, frames: list[Atoms], **changes: Any) -> RunConfig:
        start.save(tmp_path / "start.nequip")
        data = {"file": saved(frames, tmp_path / "new.xyz"), "split": {"val": 6}, **changes.pop("data", {})}
        model = {"file": str(tmp_path / "start.nequip"), **changes.pop("model", {})}
        return make_config(data=data, model=model, **changes)

    return configure


def adapted(config: RunConfig) -> tuple[Adapted, PreparedData]:
    start = load_start(config.model, config.train)
    data = prepare_data(config, start.potential.card)
    return adapt(start, data), data


FRAMES = [crystal(index) for index in range(20)]


@pytest.mark.parametrize("name", SHAPES)
def test_a_constant_for_each_element_is_found_before_training(finetuning, name):
    start = teacher(name)
    found, data = adapted(finetuning(start, taught(FRAMES, start, CONSTANTS)))
    assert found.shift_change.tolist() == pytest.approx([-13.6, -1650.0], abs=1e-8)
    assert evaluate(found.potential, data.val).errors["energy_mae"] < 1e-8


def test_elements_that_the_data_do_not_hold_keep_their_shifts(finetuning):
    start = teacher("nequip")
    frames = [crystal(index, ["H"]) for index in range(12)]
    found, _ = adapted(finetuning(start, taught(frames, start, CONSTANTS)))
    assert found.shift_change.tolist() == pytest.approx([-13.6, 0.0], abs=1e-8)


def isolated(symbol: str, energy: float) -> Atoms:
    return Atoms(symbol, info={"REF_energy": energy, "config_type": "isolated_atom"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("keep", [0.0, 0.0]),
        ({"Cu": -7.0}, [0.0, -7.0]),
    ],
)
def test_shifts_can_be_kept_and_given(finetuning, given, expected):
    start = teacher("nequip")
    config = finetuning(start, taught(FRAMES, start, CONSTANTS), model={"per_type_energy_shifts": given})
    found, _ = adapted(config)
    assert found.potential.energy_shifts[0].tolist() == expected
    assert found.config.per_type_energy_shifts == dict(zip(("H", "Cu"), expected, strict=True))


def test_isolated_atoms_leave_one_constant_to_be_fitted(finetuning):
    start = teacher("nequip")
    frames = [*taught(FRAMES, start, CONSTANTS), isolated("H", -12.0), isolated("Cu", -1649.0)]
    found, data = adapted(finetuning(start, frames, model={"per_type_energy_shifts": "isolated_atoms"}))
    hydrogen, copper = found.potential.energy_shifts[0].tolist()
    assert copper - hydrogen == pytest.approx(-1649 + 12)
    measured = evaluate(found.potential, data.train)
    assert (measured.predicted.energy - measured.reference.energy).sum() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("name", SHAPES)
def test_a_new_element_is_learned_and_known_ones_begin_where_they_were(finetuning, name):
    start = teacher(name)
    teaching = teacher(name, type_names=("O", "Cu", "H"), seed=1)
    frames = taught([crystal(index, ["H", "Cu", "O"]) for index in range(20)], teaching)
    config = finetuning(start, frames, model={"per_type_energy_shifts": "keep"}, trainer={"max_epochs": 2})
    found, _ = adapted(config)
    assert found.potential.card.type_names == ("H", "Cu", "O")
    known = crystal(0)
    before, after = (taught([known], potential)[0] for potential in (start, found.potential))
    assert after.info["REF_energy"] == pytest.approx(before.info["REF_energy"], abs=1e-10)
    outcome = run_training(config)
    assert load(outcome.best).card.type_names == ("H", "Cu", "O")


def test_numbers_of_neighbors_and_scales_stay_those_of_the_potential(finetuning):
    start = teacher("nequip", avg_num_neighbors={"H": 3.0, "Cu": 9.0}, per_type_energy_scales=0.7)
    config = load(run_training(finetuning(start, taught(FRAMES, start))).best).card.config
    assert (config["avg_num_neighbors"], config["per_type_energy_scales"]) == ({"H": 3.0, "Cu": 9.0}, 0.7)


def test_elements_may_be_left_out(finetuning):
    start = teacher("nequip")
    frames = [crystal(index, ["Cu"]) for index in range(12)]
    config = finetuning(start, taught(frames, start), model={"type_names": ["Cu"]})
    assert adapted(config)[0].potential.card.type_names == ("Cu",)


def test_the_card_tells_what_it_was_finetuned_from(finetuning, tmp_path):
    start = teacher("nequip")
    config = finetuning(start, taught(FRAMES, start))
    record = load(run_training(config).best).card.training
    digest = hashlib.sha256((tmp_path / "start.nequip").read_bytes()).hexdigest()
    assert (record.finetuned_from, record.finetuned_from_sha256) == (config.model.file, digest)
    assert (record.num_train, record.num_val) == (14, 6)


def test_the_saved_configuration_gives_the_same_run(finetuning):
    start = teacher("nequip")
    outcome = run_training(finetuning(start, taught(FRAMES, teacher("nequip", seed=5), CONSTANTS)))
    tree = yaml.safe_load((outcome.output_dir / "config.yaml").read_text())
    assert tree["model"]["type_names"] == ["H", "Cu"]
    again = run_training(validate(tree | {"output_dir": str(outcome.output_dir.parent / "again")}))
    assert again.best_errors["val/loss"] == outcome.best_errors["val/loss"]


def test_finetuning_begins_with_small_errors(finetuning):
    # labels of the potential itself: nothing is left to learn, and little is spoilt
    start = teacher("mace")
    config = finetuning(
        start, taught(FRAMES, start, CONSTANTS), train={"optimizer": {"lr": 1e-6}}, trainer={"max_epochs": 1}
    )
    assert run_training(config).best_errors["val/loss"] < 1e-6


def test_the_precision_may_change(finetuning):
    start = teacher("mace")
    outcome = run_training(finetuning(start, taught(FRAMES, start), model={"dtype": "float32"}))
    assert load(outcome.best).card.dtype == "float32"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": {"head": "cc"}}, "model.head: nequip has one readout alone"),
        ({"model": {"per_type_energy_shifts": {"Cb": 1.0}}}, "no type is called 'Cb'"),
        ({"model": {"per_type_energy_shifts": "isolated_atoms"}}, "takes isolated atoms, but none of H, Cu"),
        ({"data": {"replay": {"file": "new.xyz", "head": "dtf"}}}, "no readout is called 'dtf'"),
        ({"train": {"freeze": ["layer.9"]}}, "'layer.9' matches no weight of this model"),
    ],
)
def test_mistakes_get_one_sentence(finetuning, tmp_path, monkeypatch, changes, sentence):
    monkeypatch.chdir(tmp_path)
    start = teacher("nequip")
    with pytest.raises(ConfigError, match=sentence):
        run_training(finetuning(start, taught(FRAMES, start), **changes))


def test_validation_frames_of_elements_that_nothing_trains_are_refused(finetuning, tmp_path):
    other = saved([crystal(0, ["S"])], tmp_path / "other.xyz")
    start = teacher("nequip")
    with pytest.raises(DataError, match=r"the validation frames .* hold S, which no training frame does"):
        adapted(finetuning(start, taught(FRAMES, start), data={"val_file": other}))


def test_forces_of_a_potential_of_energies_are_refused(finetuning):
    start = teacher("nequip", energy_only=True)
    with pytest.raises(ConfigError, match=r"predicts energies alone: set train\.loss\.forces=null"):
        run_training(finetuning(start, taught(FRAMES, teacher("nequip"))))


@pytest.mark.parametrize("step", [3, 5])
def test_resume_equals_the_run_that_was_not_interrupted(finetuning, tmp_path, step):
    start, frames = teacher("nequip"), taught(FRAMES, teacher("nequip", seed=5), CONSTANTS)
    replay = {
        "file": saved(taught([crystal(i) for i in range(30, 50)], start), tmp_path / "old.xyz"),
        "ratio": 0.5,
    }
    changes = {"data": {"replay": replay}, "train": {"freeze": ["readout"]}}
    whole = run_training(finetuning(start, frames, output_dir=str(tmp_path / "whole"), **changes)).output_dir
    changes["resume"] = "auto"
    with pytest.raises(TrainingInterrupted):
        run_training(finetuning(start, frames, extensions=press_ctrl_c(step), **changes))
    assert_same_run(whole, run_training(finetuning(start, frames, **changes)).output_dir)


def test_new_energies_are_never_those_of_another_precision():
    # shifts are summed in float64 whatever the potential computes in
    assert teacher("nequip", dtype="float32").energy_shifts.dtype == torch.float64
