"""Streamed statistics against numpy on everything at once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import numpy as np
import pytest

from nequip.data.dataset import GraphDataset
from nequip.data.frame import Frame
from nequip.data.neighbors import Cutoffs, TypeMapper
from nequip.data.sources import MemorySource, open_source
from nequip.data.statistics import Statistics
from nequip.errors import DataError

NAMES = ("H", "C", "O")
NUMBERS = np.array([1, 6, 8])
CUTOFFS = Cutoffs(3.0)
TRUE_SHIFTS = np.array([-13.5, -1029.0, -2041.0])


def statistics(
    frames: Sequence[Frame], cutoffs: Cutoffs = CUTOFFS, names: Sequence[str] = NAMES
) -> Statistics:
    source = MemorySource("memory", list(frames), "fingerprint", [])
    data = GraphDataset(source, np.arange(len(frames)), TypeMapper(names), cutoffs)
    return data.prepare().statistics(names, cutoffs)


def clusters(count: int, seed: int = 0, noise: float = 0.1) -> list[Frame]:
    """Clusters of 2 to 9 atoms on a grid, energies Σ_t N_t s_t and noise, some labels missing."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)
    frames = []
    for number in range(count):
        size = rng.integers(2, 10)
        types = rng.choice(3, size, p=[0.6, 0.3, 0.1])
        forces = rng.normal(0, 1 + types[:, None], (size, 3))
        forces[rng.uniform(size=size) < 0.1] = np.nan
        frames.append(
            Frame(
                numbers=NUMBERS[types],
                positions=rng.permutation(grid)[:size] + rng.normal(0, 0.01, (size, 3)),
                energy=None if number % 7 == 3 else TRUE_SHIFTS[types].sum() + noise * rng.normal(),
                forces=None if number % 5 == 4 else forces,
            )
        )
    return frames


def counts_of(frames: Sequence[Frame]) -> np.ndarray:
    return np.array([(frame.numbers[:, None] == NUMBERS).sum(axis=0) for frame in frames])


FRAMES = clusters(700)
FOUND = statistics(FRAMES)


def test_atoms_are_counted():
    assert FOUND.num_frames == 700
    assert FOUND.num_atoms == counts_of(FRAMES).sum()
    assert list(FOUND.num_atoms_per_type.values()) == counts_of(FRAMES).sum(axis=0).tolist()


def test_shifts_are_those_of_weighted_least_squares():
    labelled = [frame for frame in FRAMES if frame.energy is not None]
    counts, energies = counts_of(labelled), np.array([frame.energy for frame in labelled])
    root = np.sqrt(counts.sum(axis=1))
    wanted, *_ = np.linalg.lstsq(counts / root[:, None], energies / root)
    assert FOUND.num_energies == len(labelled)
    assert list(FOUND.per_type_energy_shifts) == list(NAMES)
    np.testing.assert_allclose(list(FOUND.per_type_energy_shifts.values()), wanted, rtol=1e-12)
    rms = np.sqrt(np.mean(((energies - counts @ wanted) / root) ** 2))
    assert FOUND.energy_rms == pytest.approx(rms, rel=1e-9)
    assert FOUND.singular == ""


def test_exact_energies_give_exact_shifts():
    found = statistics(clusters(50, noise=0.0))
    np.testing.assert_allclose(list(found.per_type_energy_shifts.values()), TRUE_SHIFTS, rtol=1e-12)
    assert found.energy_rms == pytest.approx(0.0, abs=1e-9)


def test_large_energies_lose_no_digits_of_their_deviation():
    frames = [dataclasses.replace(frame, energy=None) for frame in clusters(300)]
    rng = np.random.default_rng(1)
    far = [
        dataclasses.replace(
            frame, energy=-1e7 * frame.num_atoms + 1e-3 * rng.normal() * np.sqrt(frame.num_atoms)
        )
        for frame in frames
    ]
    assert statistics(far).energy_rms == pytest.approx(1e-3, rel=0.2)


def test_force_deviations_are_those_of_all_labelled_components():
    forces = np.concatenate([f.forces for f in FRAMES if f.forces is not None])
    numbers = np.concatenate([f.numbers for f in FRAMES if f.forces is not None])
    labelled = ~np.isnan(forces).any(axis=1)
    assert FOUND.num_forces == labelled.sum()
    assert FOUND.forces_rms == pytest.approx(np.sqrt(np.mean(forces[labelled] ** 2)), rel=1e-12)
    for name, number in zip(NAMES, NUMBERS, strict=True):
        wanted = np.sqrt(np.mean(forces[labelled & (numbers == number)] ** 2))
        assert FOUND.per_type_forces_rms[name] == pytest.approx(wanted, rel=1e-12)


def test_the_shortest_distance_is_found():
    shortest = min(
        np.linalg.norm(frame.positions[i] - frame.positions[j])
        for frame in FRAMES
        for i in range(frame.num_atoms)
        for j in range(i)
    )
    assert FOUND.shortest_distance == pytest.approx(shortest, rel=1e-12)


# One carbon with four hydrogens around it, and a hydrogen alone.
METHANE = Frame(
    np.array([1, 6, 1, 1, 1]),
    np.array([[1.0, 0, 0], [0, 0, 0], [-1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]]),
)
ATOM = Frame(np.array([1]), np.zeros((1, 3)))


def test_neighbors_are_counted_by_the_type_of_the_center():
    found = statistics([METHANE, ATOM], Cutoffs(1.1), ("H", "C"))
    assert found.per_type_num_neighbors == {"H": 4 / 5, "C": 4.0}
    assert found.avg_num_neighbors == 8 / 6


@pytest.mark.parametrize(
    ("table", "neighbors"),
    [
        (((0.5, 1.1), (0.5, 0.5)), {"H": 4 / 5, "C": 0.0}),
        (((0.5, 0.5), (1.1, 0.5)), {"H": 0.0, "C": 4.0}),
    ],
    ids=["H sees C", "C sees H"],
)
def test_asymmetric_cutoffs_count_one_way(table, neighbors):
    found = statistics([METHANE, ATOM], Cutoffs(1.1, table), ("H", "C"))
    assert found.per_type_num_neighbors == neighbors


ETHANOL_LIKE = [dataclasses.replace(METHANE, energy=-50.0 - number) for number in range(3)]


def test_one_composition_gives_the_mean_per_atom_and_says_so():
    found = statistics(ETHANOL_LIKE, names=("H", "C"))
    assert found.per_type_energy_shifts == pytest.approx({"H": -51.0 / 5, "C": -51.0 / 5})
    assert "do not tell the energies of 2 types apart (rank 1)" in found.singular
    assert found.energy_rms == pytest.approx(np.sqrt(2 / 3 / 5))


def test_compositions_of_lower_rank_are_fitted_as_well_as_they_can_be():
    waters = [frame for frame in clusters(60, noise=0.0) if frame.energy is not None]
    # as many C as O in every frame: their sum is told by the data, each alone is not
    counts = [(4, 1, 1), (2, 2, 2), (6, 1, 1), (8, 2, 2)]
    frames = []
    for frame, count in zip(waters, counts, strict=False):
        numbers = np.repeat(NUMBERS, count)
        positions = 1.5 * np.stack([np.arange(len(numbers)), *np.zeros((2, len(numbers)))], axis=1)
        energy = float(np.dot(count, TRUE_SHIFTS))
        frames.append(
            dataclasses.replace(frame, numbers=numbers, positions=positions, forces=None, energy=energy)
        )
    found = statistics(frames)
    assert "rank 2" in found.singular
    assert found.energy_rms == pytest.approx(0, abs=1e-6)


def test_fewer_frames_than_types_are_singular():
    assert "rank 1" in statistics([dataclasses.replace(METHANE, energy=-5.0)], names=("H", "C")).singular


def test_one_type_is_never_singular():
    bulk = [dataclasses.replace(METHANE, numbers=np.full(5, 6), energy=-10.0)] * 2
    found = statistics(bulk, names=("C",))
    assert (found.singular, found.per_type_energy_shifts) == ("", pytest.approx({"C": -2.0}))


def test_a_type_that_no_frame_has_gets_no_shift():
    found = statistics(clusters(50, noise=0.0), names=("H", "C", "O", "Cu"))
    np.testing.assert_allclose(list(found.per_type_energy_shifts.values()), [*TRUE_SHIFTS, 0.0], rtol=1e-12)
    assert found.singular == ""


def test_frames_without_labels_give_none():
    found = statistics([METHANE, ATOM])
    assert (found.per_type_energy_shifts, found.energy_rms) == (None, None)
    assert (found.forces_rms, found.per_type_forces_rms) == (None, None)
    assert (found.num_energies, found.num_forces, found.num_stresses) == (0, 0, 0)


def test_stresses_are_counted():
    labelled = dataclasses.replace(METHANE, stress=np.eye(3))
    assert statistics([METHANE, labelled, labelled]).num_stresses == 2


def test_no_edges_at_all_are_an_error_with_the_shortest_distance():
    with pytest.raises(DataError, match=r"no atom of the 2 .* within r_max = 0.9 Å; .* found is 1.000 Å"):
        statistics([METHANE, ATOM], Cutoffs(0.9))


def test_statistics_are_plain_numbers():
    assert json.loads(json.dumps(FOUND.as_dict()))["num_frames"] == 700


def test_a_real_set_has_the_neighbors_that_everyone_counts(data_dir):
    source = open_source(data_dir / "rmd17_ethanol_train01.xyz")
    data = GraphDataset(source, np.arange(100), TypeMapper(NAMES), Cutoffs(5.0))
    found = data.prepare().statistics(NAMES, data.cutoffs)
    assert found.avg_num_neighbors == pytest.approx(8.0, abs=0.01)  # 9 atoms, all within 5 Å
