from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from taught_frames import SHAPES, saved, teacher

from nequip.config.schema import DensConfig, LossConfig
from nequip.data.dataset import GraphDataset
from nequip.data.draws import Draws, Noise
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper
from nequip.data.sources import open_source
from nequip.errors import ConfigError, DataError, ModelError
from nequip.model.checkpoint import load
from nequip.model.potential import Potential
from nequip.train.denoising import Denoising, NoiseWeight, displaced, supervised
from nequip.train.loss import Loss
from nequip.train.prediction import predict
from nequip.train.run import TrainingOutcome, run_training

ARCHITECTURES = ["nequip", "allegro", "mace"]
# Three layers, so that one lies between what is told and what is read off.
DEEP = {"num_layers": 3}


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> str:
    """Cubes of atoms on springs: only the force on an atom tells where it was."""
    return saved([springs(index) for index in range(12)], tmp_path_factory.mktemp("dens") / "frames.xyz")


def springs(index: int) -> Atoms:
    moved = np.random.default_rng(index).normal(0, 0.05, (8, 3))
    atoms = Atoms("Cu8", np.indices((2, 2, 2)).reshape(3, -1).T * 2.2 + moved)
    atoms.info["REF_energy"] = float(10 * np.sum(moved**2))
    atoms.arrays["REF_forces"] = -20 * moved
    return atoms


def noisy_batch(frames: str, potential: Potential, number: int = 4, sigma: float = 0.05) -> AtomicGraph:
    """Frames of which about half of the atoms are displaced."""
    source = open_source(frames)
    draws = Draws(Noise(1.0, 0.5, (sigma, sigma)), seed=3)
    mapper = TypeMapper(potential.card.type_names)
    graphs = GraphDataset(source, np.arange(number), mapper, potential.cutoffs).with_draws(draws)
    return collate([graphs[position] for position in range(number)])


def rotated(graph: AtomicGraph, rotation: torch.Tensor) -> AtomicGraph:
    labels = graph.labels._replace(forces=graph.labels.forces @ rotation.T)
    return graph._replace(positions=graph.positions @ rotation.T, labels=labels)


def rotation() -> torch.Tensor:
    matrix, _ = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    return matrix * torch.linalg.det(matrix)


@pytest.mark.parametrize("improper", [1, -1], ids=["proper", "improper"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_noise_turns_with_positions_and_forces(frames, name, improper):
    potential = teacher(name)
    denoising = Denoising(potential, DensConfig())
    graph, turn = noisy_batch(frames, potential), improper * rotation()
    one = predict(potential, graph, denoising=denoising)
    other = predict(potential, rotated(graph, turn), denoising=denoising)
    assert one.noise is not None
    assert other.noise is not None
    assert float(one.noise.norm()) > 1e-3
    assert torch.allclose(other.noise, one.noise @ turn.T, rtol=0, atol=1e-10)
    assert torch.allclose(other.energy, one.energy, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_told_of_an_atom_changes_its_energy(frames, name):
    potential = teacher(name, **DEEP)
    denoising, graph = Denoising(potential, DensConfig()), noisy_batch(frames, potential)
    told = predict(potential, graph, denoising=denoising)
    assert float((told.energy - potential(graph).energy).abs().max()) > 1e-6


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_nothing_told_changes_no_bit(frames, name, mode):
    potential = teacher(name, **DEEP).train(mode)
    graph = noisy_batch(frames, potential)
    calm = graph._replace(labels=graph.labels._replace(noise=torch.full_like(graph.positions, torch.nan)))
    told = predict(potential, calm, denoising=Denoising(potential, DensConfig()))
    plain = potential(graph)
    assert torch.equal(told.energy, plain.energy)
    assert torch.equal(told.forces, plain.forces)
    assert torch.equal(told.stress.nan_to_num(), plain.stress.nan_to_num())


def test_forces_that_are_zero_give_gradients_that_are_numbers(frames):
    potential = teacher("nequip").train()
    denoising, graph = Denoising(potential, DensConfig()), noisy_batch(frames, potential)
    graph = graph._replace(labels=graph.labels._replace(forces=torch.zeros_like(graph.positions)))
    prediction = predict(potential, graph, denoising=denoising)
    assert prediction.noise is not None
    prediction.noise.square().sum().backward()
    gradients = [weight.grad for weight in denoising.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_forces_are_data(frames):
    """Nothing of the forces that a model is told reaches their gradient, nor the forces that it predicts."""
    potential = teacher("nequip", **DEEP).train()
    denoising, graph = Denoising(potential, DensConfig()), noisy_batch(frames, potential)
    told = graph.labels.forces.clone().requires_grad_()
    graph = graph._replace(labels=graph.labels._replace(forces=told))
    prediction = predict(potential, graph, denoising=denoising)
    assert prediction.forces is not None
    assert prediction.noise is not None
    total = prediction.energy.sum() + prediction.forces.sum() + prediction.noise.sum()
    assert torch.autograd.grad(total, told, allow_unused=True) == (None,)


def test_forces_are_derivatives_by_the_displaced_positions_alone(frames):
    potential = teacher("nequip", **DEEP)
    denoising, graph = Denoising(potential, DensConfig()), noisy_batch(frames, potential)
    forces = predict(potential, graph, denoising=denoising).forces
    assert forces is not None
    atom, step = int(displaced(graph).nonzero()[0]), 1e-5
    energies = []
    for sign in (1, -1):
        positions = graph.positions.clone()
        positions[atom, 0] += sign * step
        moved = graph._replace(positions=positions)
        energies.append(float(predict(potential, moved, denoising=denoising).energy.sum()))
    assert float(forces[atom, 0]) == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-7)


@pytest.mark.parametrize("everywhere", [True, False], ids=["all displaced", "none displaced"])
def test_a_term_without_labels_is_left_out(frames, everywhere):
    """Where all atoms are displaced there are no forces to compare, and where none is no noise."""
    potential = teacher("nequip").train()
    denoising, graph = Denoising(potential, DensConfig()), noisy_batch(frames, potential)
    noise = torch.full_like(graph.positions, 0.3 if everywhere else torch.nan)
    graph = graph._replace(labels=graph.labels._replace(noise=noise))
    loss = Loss(LossConfig(), ("H", "Cu"), NoiseWeight(DensConfig(), 10))
    terms = loss(predict(potential, graph, denoising=denoising), supervised(graph))
    absent, present = ("forces", "noise") if everywhere else ("noise", "forces")
    assert (float(terms[absent].total.detach()), float(terms[absent].num_labels)) == (0, 0)
    assert float(terms[present].num_labels) > 0
    total = loss.combine(terms)
    total.backward()
    assert total.isfinite()
    gradients = [weight.grad for weight in denoising.parameters() if weight.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_the_noise_term_is_the_mean_length_of_the_errors(frames):
    potential = teacher("nequip")
    denoising, graph = Denoising(potential, DensConfig()), noisy_batch(frames, potential)
    prediction = predict(potential, graph, denoising=denoising)
    assert prediction.noise is not None
    assert graph.labels.noise is not None
    loss = Loss(LossConfig(), ("H", "Cu"), NoiseWeight(DensConfig(), 10))
    errors = (prediction.noise - graph.labels.noise)[displaced(graph)].norm(dim=1)
    found = loss(prediction, supervised(graph))["noise"].mean()
    assert float(found) == pytest.approx(float(errors.mean()), rel=1e-12)


def test_forces_are_compared_where_atoms_were_left_alone(frames):
    graph = noisy_batch(frames, teacher("nequip"))
    forces = supervised(graph).labels.forces
    assert forces[displaced(graph)].isnan().all()
    assert torch.equal(forces[~displaced(graph)], graph.labels.forces[~displaced(graph)])


@pytest.mark.parametrize(("epoch", "weight"), [(0, 5.0), (5, 2.5), (10, 0.0), (12, 0.0)])
def test_the_weight_falls_to_zero_at_the_end(epoch, weight):
    assert NoiseWeight(DensConfig(), 10)(epoch) == pytest.approx(weight)
    assert NoiseWeight(DensConfig(schedule="constant"), 10)(epoch) == 5.0


def cosine_after_training(frames: str, encode_forces: bool) -> float:
    potential = teacher("nequip", **DEEP, seed=1, backend="cpu").train()
    denoising = Denoising(potential, DensConfig(encode_forces=encode_forces))
    graph = noisy_batch(frames, potential, 12)
    mask, noise = displaced(graph), graph.labels.noise
    assert noise is not None
    weights = [*potential.parameters(), *denoising.parameters()]
    optimizer = torch.optim.Adam(weights, lr=0.02)
    potential.predict_derivatives = False
    for _ in range(400):
        predicted = predict(potential, graph, denoising=denoising).noise
        assert predicted is not None
        loss = (predicted - noise)[mask].norm(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predicted = predicted.detach()
    return float(torch.cosine_similarity(predicted[mask].flatten(), noise[mask].flatten(), dim=0))


def test_displacements_are_found_from_forces_and_hardly_without(frames):
    assert cosine_after_training(frames, encode_forces=True) > 0.99
    assert cosine_after_training(frames, encode_forces=False) < 0.95


def test_a_model_of_scalars_is_refused():
    with pytest.raises(ConfigError, match="needs vectors among the features"):
        Denoising(teacher("nequip", num_layers=1), DensConfig())


def test_an_architecture_without_features_is_refused(tiny_package):
    with pytest.raises(ModelError, match="tiny_pairs gives no features of atoms"):
        Denoising(teacher(), DensConfig())


MODEL = {"name": "nequip", "r_max": 4.0, **SHAPES["nequip"], "dtype": "float64", "backend": "reference"}
DENS = {"probability": 0.8, "ratio": 0.5, "schedule": "constant"}


def run(make_config, epochs: int, folder: Path, **changes) -> TrainingOutcome:
    trainer = {"max_epochs": epochs, "accelerator": "cpu", "logging": {"progress": "off"}}
    return run_training(
        make_config(model=MODEL, train={"dens": DENS}, trainer=trainer, output_dir=str(folder), **changes)
    )


def test_the_potential_of_a_run_has_no_trace_of_it(make_config, tmp_path):
    outcome = run(make_config, 1, tmp_path / "run")
    potential = load(outcome.last)
    assert potential.state_dict().keys() == teacher("nequip").state_dict().keys()
    assert "dens" not in str(potential.card)
    with outcome.history.open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["train/loss_noise"]) > 0


def test_a_run_goes_on_as_if_it_had_not_stopped(make_config, tmp_path):
    whole = run(make_config, 2, tmp_path / "whole")
    run(make_config, 1, tmp_path / "parts")
    resumed = run(make_config, 2, tmp_path / "parts", resume="auto")
    one, other = load(whole.last).state_dict(), load(resumed.last).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_denoising_and_compilation_exclude_each_other(make_config):
    with pytest.raises(ConfigError, match=r"train\.compile is for energies, forces and stress"):
        make_config(train={"dens": DENS, "compile": True})


def test_denoising_without_forces_is_refused(make_config, tmp_path):
    atoms = [springs(index) for index in range(30)]
    for each in atoms:
        del each.arrays["REF_forces"]
    data = {"file": saved(atoms, tmp_path / "energies.xyz")}
    with pytest.raises(DataError, match=r"train\.dens needs forces"):
        run(make_config, 1, tmp_path / "run", data=data)


@pytest.mark.parametrize("sigma", [0.0, (0.5, 0.01)])
def test_deviations_are_positive_and_ascend(make_config, sigma):
    with pytest.raises(ConfigError, match="sigma has to be above 0"):
        make_config(train={"dens": {"sigma": sigma}})
