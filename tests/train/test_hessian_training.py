from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from slopes import assert_gradient_by_weights
from taught_frames import SHAPES, crystal, saved, teacher

from nequip.config.schema import LossConfig
from nequip.data.dataset import GraphDataset
from nequip.data.draws import Directions, Draws
from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.data.sources import open_source
from nequip.data.sources.ase_files import MemorySource
from nequip.errors import ConfigError, DataError
from nequip.model.potential import Potential
from nequip.phonons import hessian
from nequip.train.loss import Loss
from nequip.train.metrics import ErrorMetrics
from nequip.train.prediction import Asked, predict
from nequip.train.run import run_training

ARCHITECTURES = ["nequip", "allegro", "mace"]


def labelled(potential: Potential, index: int, elements=("H", "Cu")) -> Frame:
    """A frame with the Hessian that `potential` has there."""
    atoms = crystal(index, elements, spacing=2.2)
    frame = Frame(atoms.numbers, atoms.positions)
    graph = build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)
    prediction = potential(graph)
    return replace(
        frame,
        energy=float(prediction.energy.detach()),
        forces=prediction.forces.detach().numpy(),
        hessian=hessian(potential, graph).detach().numpy(),
    )


def batch(potential: Potential, frames: list[Frame], directions: Directions) -> AtomicGraph:
    source = MemorySource("frames", frames, "fingerprint", [])
    mapper = TypeMapper(potential.card.type_names)
    graphs = GraphDataset(source, np.arange(len(frames)), mapper, potential.cutoffs)
    graphs = graphs.with_draws(Draws(directions=directions))
    return collate([graphs[position] for position in range(len(frames))])


def loss_of(graph: AtomicGraph, potential: Potential) -> torch.Tensor:
    loss = Loss(LossConfig.model_validate({"energy": None, "forces": None, "hessian": {}}), ("H", "Cu"))
    return loss.combine(loss(predict(potential, graph, Asked(products=True)), graph))


@pytest.mark.parametrize("kind", ["random", "rows"])
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_products_are_those_of_the_exact_hessian(name, mode, kind):
    potential = teacher(name)
    frames = [labelled(potential, index) for index in range(3)]
    graph = batch(potential, frames, Directions(kind, 2))
    products = predict(potential.train(mode), graph, Asked(products=True)).products
    assert products is not None
    assert products.requires_grad == mode
    assert graph.labels.products is not None
    assert float(graph.labels.products.abs().max()) > 1e-3
    assert torch.allclose(products, graph.labels.products, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_of_the_loss_are_those_of_finite_differences(name, backend):
    """The third derivative: by positions twice and by weights."""
    other, potential = teacher(name, seed=9), teacher(name, backend=backend).train()
    graph = batch(other, [labelled(other, 0), labelled(other, 1)], Directions("random", 1))
    assert_gradient_by_weights(potential, lambda: loss_of(graph, potential))


def test_the_loss_over_all_rows_is_the_mean_square_of_the_elements():
    other, potential = teacher("nequip", seed=9), teacher("nequip")
    frame = labelled(other, 0)
    graph = batch(other, [frame], Directions("rows", 3 * frame.num_atoms))
    mapper = TypeMapper(potential.card.type_names)
    difference = hessian(potential, build_graph(frame, mapper, potential.cutoffs)) - torch.tensor(
        frame.hessian
    )
    assert float(loss_of(graph, potential)) == pytest.approx(float(difference.square().mean()), rel=1e-10)


def test_frames_without_a_hessian_add_nothing():
    other, potential = teacher("nequip", seed=9), teacher("nequip")
    frames = [labelled(other, 0), replace(labelled(other, 1), hessian=None)]
    both = batch(other, frames, Directions("random", 2))
    alone = batch(other, frames[:1], Directions("random", 2))
    assert float(loss_of(both, potential)) == pytest.approx(float(loss_of(alone, potential)), rel=1e-12)


def test_errors_of_hessians_are_counted():
    other, potential = teacher("nequip", seed=9), teacher("nequip")
    graph = batch(other, [labelled(other, 0)], Directions("rows", 3))
    errors = ErrorMetrics(("H", "Cu"))
    errors.update(predict(potential, graph, Asked(products=True)), graph)
    expected = float(loss_of(graph, potential)) ** 0.5
    assert errors.compute()["hessian_rmse"] == pytest.approx(expected, rel=1e-12)


MODEL = {"name": "nequip", "r_max": 4.0, **SHAPES["nequip"], "dtype": "float64", "backend": "reference"}


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> str:
    potential = teacher("nequip", seed=9)
    structures = []
    for index in range(30):
        frame = labelled(potential, index)
        atoms = Atoms(frame.numbers, frame.positions)
        atoms.info["REF_energy"] = frame.energy
        atoms.arrays["REF_forces"] = frame.forces
        atoms.arrays["REF_hessian"] = frame.hessian.reshape(len(atoms), -1)
        structures.append(atoms)
    return saved(structures, tmp_path_factory.mktemp("hessians") / "frames.xyz")


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_stage_switches_hessians_on(make_config, frames):
    loss = {
        "hessian": {"weight": 0.0, "num_directions": 2},
        "schedule": [{"epoch": 1, "weights": {"hessian": 1.0}}],
    }
    trainer = {"max_epochs": 3, "accelerator": "cpu", "logging": {"progress": "off"}}
    config = make_config(model=MODEL, data={"file": frames}, train={"loss": loss}, trainer=trainer)
    rows = table(run_training(config).history)
    errors = [row.get("val/hessian_mae") or "0" for row in rows]
    assert float(errors[0]) == 0
    assert 0 < float(errors[2]) < float(errors[1])
    assert float(rows[0]["train/loss_hessian"]) == 0 < float(rows[1]["train/loss_hessian"])


def test_frames_without_any_hessian_are_refused(make_config):
    config = make_config(train={"loss": {"hessian": {}}})
    with pytest.raises(DataError, match=r"train.loss.hessian is on, but no training frame"):
        run_training(config)


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"readout_mlp_width": 8, "readout_mlp_nonlinearity": "relu"}, "needs a smooth energy.*'relu': take"),
        ({"polynomial_cutoff_p": 2}, "polynomial_cutoff_p is 2: take 3 or more"),
    ],
)
def test_an_energy_without_three_derivatives_is_refused(make_config, frames, option, told):
    config = make_config(model={**MODEL, **option}, data={"file": frames}, train={"loss": {"hessian": {}}})
    with pytest.raises(ConfigError, match=told):
        run_training(config)


def test_a_model_of_energies_alone_has_no_hessian_to_train(make_config):
    with pytest.raises(ConfigError, match="leaves no forces, stress or Hessian"):
        make_config(model={"energy_only": True}, train={"loss": {"forces": None, "hessian": {}}})


def test_hessians_of_water_are_read(data_dir):
    source = open_source(data_dir / "pyscf_H2O_hessian.xyz")
    arrays = np.load(data_dir / "pyscf_H2O_hessian.npz")
    for index in range(len(source)):
        assert np.allclose(source[index].hessian, arrays["hessian"][index], rtol=0, atol=1e-7)
