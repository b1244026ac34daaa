"""Training on force constants of crystals, those of another potential."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from slopes import assert_gradient_by_weights
from taught_frames import SHAPES, teacher

from nequip.config.schema import LossConfig
from nequip.data.dataset import GraphDataset
from nequip.data.draws import Draws, Waves
from nequip.data.force_constants import ForceConstants
from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper
from nequip.data.sources.ase_files import MemorySource
from nequip.errors import DataError
from nequip.model.potential import Potential
from nequip.phonons.crystal import Phonons
from nequip.phonons.phonopy_files import to_phonopy
from nequip.train.loss import Loss
from nequip.train.metrics import ErrorMetrics
from nequip.train.prediction import Asked, predict
from nequip.train.run import run_training

ARCHITECTURES = ["nequip", "allegro", "mace"]
MULTIPLES = (2, 1, 2)


def salt(index: int = 0) -> Atoms:
    """Rock salt with its lattice pulled a little out of shape."""
    atoms = bulk("HCu", "rocksalt", a=4.4 + 0.1 * index)
    strain = np.eye(3) + np.random.default_rng(index).normal(0, 0.01, (3, 3))
    atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
    return atoms


def frame_of(atoms: Atoms, constants: ForceConstants | None) -> Frame:
    cell = np.array(atoms.cell)
    return Frame(atoms.numbers, atoms.positions, cell, (True,) * 3, energy=0.0, force_constants=constants)


@cache
def labelled(name: str, seed: int, index: int) -> Frame:
    """A crystal with force constants of the supercell, by transformation of exact Φ(q)."""
    phonons = Phonons(teacher(name, seed=seed), salt(index))
    cells = np.stack(np.meshgrid(*map(np.arange, MULTIPLES), indexing="ij"), -1).reshape(-1, 3)
    waves = cells / np.array(MULTIPLES)
    at_waves = phonons.force_constants(waves)
    back = np.exp(-2j * np.pi * cells @ waves.T) / len(waves)
    values = np.tensordot(back, at_waves, 1).real.reshape(-1, 2, 3, 2, 3)
    return frame_of(salt(index), ForceConstants(np.diag(MULTIPLES), cells, values))


def batch(potential: Potential, frames: list[Frame], number: int = 2) -> AtomicGraph:
    source = MemorySource("frames", frames, "fingerprint", [])
    mapper = TypeMapper(potential.card.type_names)
    graphs = GraphDataset(source, np.arange(len(frames)), mapper, potential.cutoffs)
    graphs = graphs.with_draws(Draws(waves=Waves(number)))
    return collate([graphs[position] for position in range(len(frames))])


def loss_of(graph: AtomicGraph, potential: Potential) -> torch.Tensor:
    terms = {"energy": None, "forces": None, "force_constants": {}}
    loss = Loss(LossConfig.model_validate(terms), ("H", "Cu"))
    return loss.combine(loss(predict(potential, graph, Asked(responses=True)), graph))


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_potential_has_no_error_on_constants_of_its_own(name, mode):
    potential = teacher(name).train(mode)
    graph = batch(potential, [labelled(name, 0, index) for index in (0, 1)])
    responses = predict(potential, graph, Asked(responses=True)).responses
    assert responses is not None
    assert responses.requires_grad == mode
    assert graph.labels.responses is not None
    assert float(graph.labels.responses[..., 1].abs().max()) > 1e-3
    assert torch.allclose(responses, graph.labels.responses, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_of_the_loss_are_those_of_finite_differences(name, backend):
    potential = teacher(name, backend=backend).train()
    graph = batch(potential, [labelled("nequip", 9, index) for index in (0, 1)], 1)
    assert_gradient_by_weights(potential, lambda: loss_of(graph, potential))


def test_frames_without_constants_add_nothing_and_cost_nothing(monkeypatch):
    potential = teacher("nequip")
    crystals = [labelled("nequip", 9, 0), frame_of(salt(2), None)]
    both, alone = batch(potential, crystals), batch(potential, crystals[:1])
    assert float(loss_of(both, potential)) == pytest.approx(float(loss_of(alone, potential)), rel=1e-12)
    monkeypatch.delattr("nequip.train.prediction.Waves")
    assert float(loss_of(batch(potential, crystals[1:]), potential)) == 0


def test_a_batch_without_constants_still_has_a_gradient():
    potential = teacher("nequip").train()
    loss_of(batch(potential, [frame_of(salt(2), None)]), potential).backward()


def test_errors_of_constants_are_counted():
    potential = teacher("nequip")
    graph = batch(potential, [labelled("nequip", 9, 0)])
    errors = ErrorMetrics(("H", "Cu"))
    errors.update(predict(potential, graph, Asked(responses=True)), graph)
    expected = float(loss_of(graph, potential)) ** 0.5
    assert errors.compute()["force_constants_rmse"] == pytest.approx(expected, rel=1e-12)


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


MODEL = {"name": "nequip", "r_max": 4.0, **SHAPES["nequip"], "dtype": "float64", "backend": "cpu"}


def test_training_on_constants_of_a_potential_brings_its_bands_nearer():
    frames = [labelled("nequip", 9, 0)]
    student, wanted = teacher("nequip", seed=1, backend="cpu"), teacher("nequip", seed=9)
    # waves that no supercell of the labels holds
    q = np.array([[0.1, 0.2, 0.3], [0.35, 0.0, 0.1], [0.2, 0.4, 0.0]])
    want = Phonons(wanted, salt()).frequencies(q)

    def error() -> float:
        return float(np.abs(Phonons(student, salt()).frequencies(q) - want).mean())

    before = error()
    graph, student = batch(student, frames, 8), student.train()
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss_of(graph, student).backward()
        optimizer.step()
    student.eval()
    assert error() < 0.5 * before


def test_a_run_reads_files_of_phonopy(make_config, tmp_path: Path):
    for index in range(4):
        cells = to_phonopy(Phonons(teacher("nequip", seed=9), salt(index)), (2, 2, 2))
        cells.save(tmp_path / f"salt{index}.yaml", settings={"force_constants": True})
    terms = {"energy": None, "forces": None, "force_constants": {"num_waves": 2}}
    data = {"file": str(tmp_path / "salt*.yaml"), "split": {"train": 3, "val": 1}, "batch": {"size": 1}}
    model = {**MODEL, "per_type_energy_shifts": {"H": 0.0, "Cu": 0.0}, "per_type_energy_scales": None}
    trainer = {"max_epochs": 3, "accelerator": "cpu", "logging": {"progress": "off"}, "report": False}
    history = run_training(
        make_config(model=model, data=data, train={"loss": terms}, trainer=trainer)
    ).history
    rows = table(history)
    assert 0 < float(rows[-1]["val/force_constants_rmse"]) < float(rows[0]["val/force_constants_rmse"])


def test_frames_without_any_constants_are_refused(make_config):
    config = make_config(train={"loss": {"force_constants": {}}})
    with pytest.raises(DataError, match=r"force_constants is on, but no training frame .* has any"):
        run_training(config)
