"""The calculator around a real model: files, precision, batches, the skin."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import Trajectory

import nequip
from nequip.calculators import NequIPCalculator
from nequip.errors import CheckpointError
from nequip.model.nequip import NequIPConfig
from nequip.model.registry import build_potential


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    config = NequIPConfig(
        type_names=("H", "C", "O", "Cu"),
        r_max=3.5,
        num_layers=2,
        num_features=4,
        radial_mlp_width=8,
        avg_num_neighbors=10.0,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=-3.0,
    )
    path = tmp_path_factory.mktemp("model") / "model.nequip"
    build_potential(config).save(path)
    return path


def structures() -> list[Atoms]:
    crystal = bulk("Cu", a=3.6, cubic=True)
    crystal.rattle(0.1, seed=0)
    return [molecule("CH3CH2OH"), crystal, molecule("H2O"), bulk("Cu", a=3.5)]


@pytest.mark.parametrize("as_given", [str, Path, nequip.load], ids=["str", "Path", "potential"])
def test_potential_may_come_from_a_file_or_from_memory(model, as_given):
    expected = NequIPCalculator(model).get_property("forces", structures()[0])
    np.testing.assert_array_equal(
        NequIPCalculator(as_given(model)).get_property("forces", structures()[0]), expected
    )


def test_missing_file_is_told_in_a_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="there is no file"):
        NequIPCalculator(tmp_path / "model.nequip")


@pytest.mark.parametrize("from_memory", [True, False])
def test_precision_is_what_was_asked_for(model, from_memory):
    source = nequip.load(model) if from_memory else model
    double = NequIPCalculator(source, dtype="float64")
    assert double.potential.card.dtype == "float64"
    assert NequIPCalculator(source).potential.card.dtype == "float32"
    atoms = structures()[1]
    single = NequIPCalculator(source).get_property("forces", atoms)
    np.testing.assert_allclose(single, double.get_property("forces", atoms), atol=1e-5)
    assert not np.array_equal(single, double.get_property("forces", atoms))


def test_skin_changes_no_bit(model):
    kept, fresh = NequIPCalculator(model, skin=0.8), NequIPCalculator(model, skin=0.0)
    atoms = structures()[1]
    rng = np.random.default_rng(0)
    for _ in range(10):
        atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
        for name in ("energy", "forces", "stress"):
            np.testing.assert_array_equal(kept.get_property(name, atoms), fresh.get_property(name, atoms))
    assert kept.neighbor_list.num_searches < fresh.neighbor_list.num_searches


@pytest.mark.parametrize("batch_size", [2, 10])
def test_batch_equals_one_by_one(model, batch_size):
    calculator = NequIPCalculator(model, dtype="float64")
    for atoms, result in zip(structures(), calculator.evaluate(structures(), batch_size), strict=True):
        calculator.calculate(atoms)
        assert result.keys() == calculator.results.keys()
        for name, value in calculator.results.items():
            np.testing.assert_allclose(result[name], value, atol=1e-10)


def test_evaluate_may_be_called_from_several_threads(model):
    calculator = NequIPCalculator(model)
    expected = calculator.evaluate(structures())
    with ThreadPoolExecutor(2) as pool:
        for results in pool.map(calculator.evaluate, [structures()] * 4):
            for result, wanted in zip(results, expected, strict=True):
                np.testing.assert_array_equal(result["forces"], wanted["forces"])


def test_trajectory_of_ase_keeps_what_there_is(model, tmp_path):
    atoms = structures()[0]
    atoms.calc = NequIPCalculator(model)
    atoms.get_forces()
    with Trajectory(tmp_path / "out.traj", "w") as file:
        file.write(atoms)
    with Trajectory(tmp_path / "out.traj") as file:
        assert set(file[0].calc.results) == {"energy", "free_energy", "energies", "forces"}
