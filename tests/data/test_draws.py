from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nequip.data.batching import BatchLimits, GraphBatchSampler
from nequip.data.dataset import GraphDataset
from nequip.data.draws import Directions, Draws, Noise, Waves
from nequip.data.force_constants import ForceConstants
from nequip.data.frame import Frame
from nequip.data.graph import collate
from nequip.data.loading import make_loader
from nequip.data.neighbors import Cutoffs, TypeMapper
from nequip.data.sources.ase_files import MemorySource

SIGMA = 0.05
NOISE = Noise(0.25, 0.25, (SIGMA, SIGMA))


def frame(num_atoms: int, seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    hessian = rng.normal(size=(3 * num_atoms, 3 * num_atoms))
    return Frame(
        numbers=np.ones(num_atoms, dtype=np.int64),
        positions=np.indices((4, 4, 4)).reshape(3, -1).T[:num_atoms] * 1.5,
        energy=-1.0,
        forces=rng.normal(size=(num_atoms, 3)),
        stress=np.eye(3),
        hessian=hessian + hessian.T,
    )


def dataset(draws: Draws, *frames: Frame) -> GraphDataset:
    source = MemorySource("frames", list(frames), "fingerprint", [])
    plain = GraphDataset(source, np.arange(len(frames)), TypeMapper(["H"]), Cutoffs(1.6))
    return plain.with_draws(draws)


def test_the_share_of_displaced_atoms_is_probability_times_ratio():
    rng, number = np.random.default_rng(0), 4000
    ten = frame(10)
    displaced = [np.isfinite(NOISE.apply(ten, rng)[1]).all(1).mean() for _ in range(number)]
    p, r = 0.25, 0.25
    deviation = np.sqrt((p * (r**2 + r * (1 - r) / 10) - (p * r) ** 2) / number)
    assert abs(np.mean(displaced) - p * r) < 3 * deviation


def test_noise_is_the_displacement_in_units_of_its_deviation():
    sixty = frame(60)
    moved, noise = Noise(1.0, 0.5, (SIGMA, SIGMA)).apply(sixty, np.random.default_rng(0))
    expected = np.where(np.isnan(noise), 0.0, SIGMA * noise)
    assert np.allclose(moved.positions - sixty.positions, expected, atol=1e-15)
    assert 0.8 < np.nanstd(noise) < 1.2


def test_energy_and_forces_stay_and_stress_and_hessian_go():
    ten = frame(10)
    moved, _ = Noise(1.0, 0.5, (SIGMA, SIGMA)).apply(ten, np.random.default_rng(0))
    assert moved.energy == ten.energy
    assert moved.forces is ten.forces
    assert (moved.stress, moved.hessian) == (None, None)


def test_deviations_are_even_on_a_scale_of_logarithms():
    rng, noise = np.random.default_rng(0), Noise(1.0, 1.0, (0.01, 0.5))
    ten = frame(10)
    found = []
    for _ in range(300):
        moved, epsilon = noise.apply(ten, rng)
        found.append(np.log(np.linalg.norm(moved.positions - ten.positions) / np.linalg.norm(epsilon)))
    low, high = np.log([0.01, 0.5])
    assert low <= min(found)
    assert max(found) <= high
    assert abs(np.mean(found) - (low + high) / 2) < 3 * (high - low) / np.sqrt(12 * 300)


def test_atoms_without_a_force_are_left_alone():
    ten = frame(10)
    assert ten.forces is not None
    ten.forces[::2] = np.nan
    _, noise = Noise(1.0, 1.0, (SIGMA, SIGMA)).apply(ten, np.random.default_rng(0))
    assert np.isnan(noise[::2]).all()
    assert np.isfinite(noise[1::2]).all()


def test_edges_are_those_of_the_displaced_atoms():
    graphs = dataset(Draws(Noise(1.0, 1.0, (0.2, 0.2))), frame(20))
    graph = graphs[0]
    vectors = graph.positions[graph.neighbor] - graph.positions[graph.center]
    all_pairs = torch.cdist(graph.positions, graph.positions) < 1.6
    assert graph.num_edges == int(all_pairs.sum()) - 20
    assert float(vectors.norm(dim=1).max()) < 1.6


def test_a_frame_whose_atoms_would_overlap_is_left_alone():
    two = Frame(np.ones(2, dtype=np.int64), np.array([[0, 0, 0], [0.021, 0, 0]]), forces=np.zeros((2, 3)))
    graphs = dataset(Draws(Noise(1.0, 1.0, (0.005, 0.005))), two)
    for epoch in range(20):
        graphs.start_epoch(epoch)
        labels = graphs[0].labels
        assert labels.noise is not None
        assert torch.equal(labels.noise.isnan().any(), (graphs[0].positions[1, 0] == 0.021).any())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_every_epoch_draws_anew_and_the_same_again(num_workers):
    graphs = dataset(Draws(Noise(1.0, 0.5, (SIGMA, SIGMA))), frame(5), frame(6))
    loader = make_loader(graphs, GraphBatchSampler(graphs, BatchLimits(2), shuffle=False), num_workers)
    found = []
    for epoch in (0, 1, 0):
        graphs.start_epoch(epoch)
        found.append(next(iter(loader)).positions)
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("kind", ["random", "rows"])
def test_products_are_those_of_the_hessian(kind):
    three = frame(3)
    found = Directions(kind, 4).draw(three, np.random.default_rng(0))
    directions = found.directions.transpose(1, 0, 2).reshape(4, 9)
    assert three.hessian is not None
    assert np.allclose(np.linalg.norm(directions, axis=1), 1.0)
    assert np.allclose(found.values.transpose(1, 0, 2).reshape(4, 9), directions @ three.hessian)


def test_all_rows_come_before_one_comes_again():
    found = Directions("rows", 12).draw(frame(2), np.random.default_rng(0))
    rows = found.directions.transpose(1, 0, 2).reshape(12, 6).argmax(1)
    assert sorted(rows[:6].tolist()) == sorted(rows[6:].tolist()) == list(range(6))


def test_squares_of_random_products_are_those_of_the_elements_in_the_mean():
    three = frame(3)
    assert three.hessian is not None
    found = Directions("random", 3000).draw(three, np.random.default_rng(0))
    assert np.mean(found.values**2) == pytest.approx(np.mean(three.hessian**2), rel=0.03)


def test_frames_with_and_without_a_hessian_share_a_batch():
    graphs = dataset(Draws(directions=Directions("random", 2)), frame(3), replace(frame(4), hessian=None))
    products = collate([graphs[0], graphs[1]]).labels.products
    assert products is not None
    assert products.shape == (7, 2, 3)
    assert products[:3].isfinite().all()
    assert products[3:].isnan().all()


def crystal_frame() -> Frame:
    rng = np.random.default_rng(0)
    cells = np.array([[0, 0, 0], [0, 1, 0], [0, 2, 0]])
    constants = ForceConstants(np.diag([1, 3, 1]), cells, rng.normal(size=(3, 2, 3, 2, 3)))
    two = np.ones(2, dtype=np.int64)
    return Frame(two, np.eye(3)[:2], 3 * np.eye(3), (True,) * 3, force_constants=constants)


def as_complex(parts: np.ndarray) -> np.ndarray:
    """[wave, coordinate] of [atom, wave, 3, 2]."""
    return (parts[..., 0] + 1j * parts[..., 1]).transpose(1, 0, 2).reshape(parts.shape[1], -1)


def test_responses_are_those_of_the_force_constants():
    crystal = crystal_frame()
    assert crystal.force_constants is not None
    found = Waves(5).draw(crystal, np.random.default_rng(0))
    patterns, values = as_complex(found.patterns), as_complex(found.values)
    assert np.allclose(np.linalg.norm(patterns, axis=1), 2**0.5)
    for q, u, value in zip(found.q[0], patterns, values, strict=True):
        assert np.allclose(value, crystal.force_constants.at(q) @ u)


def test_every_wave_that_fits_is_drawn_as_often():
    found = Waves(3000).draw(crystal_frame(), np.random.default_rng(0)).q[0]
    waves, numbers = np.unique(np.round(3 * found).astype(int), axis=0, return_counts=True)
    assert waves.tolist() == [[0, 0, 0], [0, 1, 0], [0, 2, 0]]
    assert numbers.min() > 900


def test_squares_of_responses_are_those_of_elements_and_of_pairs_of_patterns_in_the_mean():
    """With |u₁|² = 2: the mean over real and imaginary parts of Φu₁ is that of |Φ|², and of |u₂†Φu₁|²."""
    crystal = crystal_frame()
    constants = crystal.force_constants
    assert constants is not None
    found = Waves(6000).draw(crystal, np.random.default_rng(0))
    elements = np.mean([np.abs(constants.at(q)) ** 2 for q in constants.waves()])
    assert np.mean(found.values**2) == pytest.approx(elements, rel=0.03)
    u2 = np.random.default_rng(1).normal(size=(2, 6000, 6)).view()
    other = (u2[0] + 1j * u2[1]) / 2**0.5  # each component of mean square 1
    pairs = np.abs((other.conj() * as_complex(found.values)).sum(1)) ** 2
    assert pairs.mean() / 12 == pytest.approx(elements, rel=0.05)


def test_patterns_prefer_no_direction_and_no_phase():
    patterns = as_complex(Waves(4000).draw(crystal_frame(), np.random.default_rng(0)).patterns)
    assert np.allclose(patterns.conj().T @ patterns / 4000, np.eye(6) / 3, atol=0.03)
    assert np.allclose(patterns.T @ patterns / 4000, 0, atol=0.03)


def test_displaced_frames_lose_their_force_constants():
    crystal = replace(crystal_frame(), forces=np.zeros((2, 3)))
    moved, _ = Noise(1.0, 1.0, (SIGMA, SIGMA)).apply(crystal, np.random.default_rng(0))
    assert moved.force_constants is None
