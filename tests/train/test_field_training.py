"""Training on what an electric field does, from the file to the errors."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from field_potentials import FIELD_BASE, FIELD_SHAPES, field_potential
from taught_frames import saved

from nequip.cli.main import main
from nequip.config.schema import LossConfig
from nequip.data.frame import Frame
from nequip.data.graph import collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import ConfigError, DataError
from nequip.train.loss import Loss
from nequip.train.metrics import ErrorMetrics
from nequip.train.prediction import Asked, predict
from nequip.train.run import run_training

LABELS = ("dipole", "polarizability", "born_charges")


def water(index: int) -> Atoms:
    rng = np.random.default_rng(index)
    positions = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    return Atoms("OHH", positions + rng.normal(0, 0.08, (3, 3)))


def labelled(index: int, seed: int = 9) -> Frame:
    """A frame with what a potential of other weights says of it."""
    atoms, potential = water(index), field_potential("nequip", seed=seed)
    potential.predict_born_charges = True
    frame = Frame(atoms.numbers, atoms.positions)
    found = potential(build_graph(frame, TypeMapper(("H", "O")), potential.cutoffs))
    values = {name: getattr(found, name) for name in ("forces", "born_charges")}
    values |= {name: getattr(found, name)[0] for name in ("dipole", "polarizability")}
    return replace(frame, energy=found.energy.item(), **{k: v.numpy() for k, v in values.items()})


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> str:
    structures = []
    for index in range(14):
        frame = labelled(index)
        atoms = Atoms(frame.numbers, frame.positions)
        atoms.info |= {
            "REF_energy": frame.energy,
            "dipole": frame.dipole,
            "REF_polarizability": frame.polarizability,
        }
        atoms.arrays |= {"REF_forces": frame.forces, "born_charges": frame.born_charges.reshape(3, 9)}
        structures.append(atoms)
    return saved(structures, tmp_path_factory.mktemp("field") / "frames.xyz")


def section(name: str = "nequip") -> dict[str, object]:
    keys = ("r_max", "dtype", "electric_field")
    return {"name": name, **{key: FIELD_BASE[key] for key in keys}, **FIELD_SHAPES[name]}


SPLIT = {"train": 10, "val": 4}
TRAINER = {"max_epochs": 30, "accelerator": "cpu", "report": False, "logging": {"progress": "off"}}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("name", FIELD_SHAPES)
def test_training_on_a_label_makes_its_error_smaller(make_config, frames, name, label):
    train = {"loss": {"energy": None, "forces": None, label: {"weight": 1.0}}, "ema_decay": None}
    config = make_config(
        model=section(name), data={"file": frames, "split": SPLIT}, train=train, trainer=TRAINER
    )
    with run_training(config).history.open() as file:
        errors = [float(row[f"val/{label}_rmse"]) for row in csv.DictReader(file)]
    assert errors[-1] < 0.8 * errors[0], errors


def test_hessians_and_dipoles_train_together():
    """Products of the Hessian take another way through the potential, which has dipoles too."""
    potential = field_potential("nequip").train()
    graph = build_graph(labelled(0), TypeMapper(("H", "O")), potential.cutoffs)
    directions = torch.eye(9, dtype=torch.float64)[:2].reshape(2, 3, 3).transpose(0, 1)
    graph = graph._replace(labels=graph.labels._replace(directions=directions))
    potential.predict_born_charges = True
    found, plain = predict(potential, graph, Asked(products=True)), potential(graph)
    assert found.products is not None
    for label in LABELS:
        assert torch.allclose(getattr(found, label), getattr(plain, label), rtol=0, atol=1e-14)
        assert getattr(found, label).requires_grad


def test_errors_and_loss_are_those_of_the_labels_that_are_there():
    potential = field_potential("nequip")
    potential.predict_born_charges = True
    mapper = TypeMapper(("H", "O"))
    whole, bare = labelled(0), replace(labelled(1), dipole=None, polarizability=None, born_charges=None)
    graph = collate([build_graph(frame, mapper, potential.cutoffs) for frame in (bare, whole)])
    found = predict(potential, graph)
    errors = ErrorMetrics(("H", "O"))
    errors.update(found, graph)
    difference = found.dipole[1].numpy() - whole.dipole
    assert errors.compute()["dipole_mae"] == pytest.approx(np.abs(difference).mean(), rel=1e-12)
    charges = found.born_charges[3:].numpy() - whole.born_charges
    assert errors.compute()["born_charges_rmse"] == pytest.approx((charges**2).mean() ** 0.5, rel=1e-12)
    loss = Loss(LossConfig.model_validate({"energy": None, "forces": None, "dipole": {}}), ("H", "O"))
    assert float(loss.combine(loss(found, graph))) == pytest.approx((difference**2).mean(), rel=1e-12)


def test_evaluate_gives_errors_of_all_three(frames, tmp_path: Path):
    field_potential("nequip", seed=9).save(tmp_path / "model.nequip")
    folder = tmp_path / "out"
    assert main(["evaluate", str(tmp_path / "model.nequip"), frames, "-o", str(folder), "--json"]) == 0
    errors = json.loads((folder / "errors.json").read_text())["errors"]
    for label in LABELS:
        assert errors[f"{label}_rmse"] < 1e-6  # of the model that made the labels


def test_frames_without_the_label_are_refused(make_config, tmp_path: Path):
    file = saved([bare(index) for index in range(14)], tmp_path / "bare.xyz")
    with pytest.raises(DataError, match=r"train.loss.dipole is on, but no training frame"):
        run_training(
            make_config(model=section(), data={"file": file, "split": SPLIT}, train={"loss": {"dipole": {}}})
        )


def bare(index: int) -> Atoms:
    atoms = water(index)
    atoms.info["REF_energy"] = 1.0
    atoms.arrays["REF_forces"] = np.zeros((3, 3))
    return atoms


def test_a_model_without_a_field_is_refused(make_config, frames):
    model = {**section(), "electric_field": False}
    config = make_config(model=model, data={"file": frames, "split": SPLIT}, train={"loss": {"dipole": {}}})
    with pytest.raises(ConfigError, match=r"model.electric_field=true"):
        run_training(config)


@pytest.mark.parametrize("option", [{"dens": {}}, {"compile": True}])
def test_what_does_not_go_with_a_field_is_refused(make_config, frames, option):
    config = make_config(model=section(), data={"file": frames, "split": SPLIT}, train=option)
    with pytest.raises(ConfigError, match=r"for models without electric_field"):
        run_training(config)
