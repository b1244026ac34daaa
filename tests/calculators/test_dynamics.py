from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.io import read
from toy_potential import toy_potential

from nequip.calculators import NequIPCalculator
from nequip.calculators.dynamics import NVERecord, NVESettings, degrees_of_freedom, run_nve, set_velocities
from nequip.errors import ConfigError, DataError


def cluster() -> Atoms:
    return molecule("CH3CH2OH")


def crystal() -> Atoms:
    atoms = bulk("Cu", a=3.4, cubic=True) * 2
    atoms.calc = NequIPCalculator(toy_potential())
    return atoms


@pytest.mark.parametrize(
    "atoms", [cluster(), molecule("CO2"), molecule("N2"), bulk("Cu", cubic=True)], ids=lambda a: a.symbols
)
def test_start_has_the_temperature_asked_for_and_no_drift(atoms):
    set_velocities(atoms, temperature=300, seed=3)
    kinetic = atoms.get_kinetic_energy()
    assert 2 * kinetic / (degrees_of_freedom(atoms) * units.kB) == pytest.approx(300)
    np.testing.assert_allclose(atoms.get_momenta().sum(0), 0, atol=1e-12)


@pytest.mark.parametrize("atoms", [cluster(), molecule("CO2"), molecule("N2")], ids=lambda a: a.symbols)
def test_molecule_starts_without_turning(atoms):
    atoms.rotate(30, "x")
    set_velocities(atoms, temperature=300, seed=3)
    np.testing.assert_allclose(atoms.get_angular_momentum(), 0, atol=1e-10)


def test_start_is_fixed_by_the_seed():
    momenta = []
    for seed in (0, 0, 1):
        atoms = cluster()
        set_velocities(atoms, 300, seed)
        momenta.append(atoms.get_momenta())
    np.testing.assert_array_equal(momenta[0], momenta[1])
    assert not np.array_equal(momenta[0], momenta[2])


@pytest.mark.parametrize(
    ("atoms", "number"),
    [
        (Atoms("Cu"), 3),
        (molecule("N2"), 1),
        (molecule("CO2"), 4),
        (cluster(), 21),
        (bulk("Cu", cubic=True), 9),
    ],
    ids=["atom", "N2", "CO2", "ethanol", "crystal"],
)
def test_degrees_of_freedom(atoms, number):
    assert degrees_of_freedom(atoms) == number


def test_zero_temperature_starts_at_rest():
    atoms = cluster()
    set_velocities(atoms, 0, seed=0)
    assert atoms.get_kinetic_energy() == 0


def test_total_energy_is_conserved():
    record = run_nve(crystal(), NVESettings(steps=200, timestep=2.0, temperature=300))
    assert record.time.tolist() == [20.0 * step for step in range(21)]
    assert record.temperature[0] == pytest.approx(300)
    assert np.ptp(record.kinetic) > 100 * np.ptp(record.total)
    assert abs(record.drift) < 1e-4
    assert record.fluctuation < 1e-4


def test_drift_and_fluctuation_are_those_of_the_records():
    time = np.arange(5) * 100.0
    wiggle = np.array([1, -1, 0, -1, 1]) * 0.02
    record = NVERecord(time, 0.3 * time / 1000 + wiggle, np.zeros(5), np.zeros(5), num_atoms=2)
    assert record.drift == pytest.approx(0.15)
    assert record.fluctuation == pytest.approx(np.std(wiggle) / 2)


def test_trajectory_holds_every_record(tmp_path):
    path = tmp_path / "nve.xyz"
    path.write_text("of an earlier run")
    record = run_nve(crystal(), NVESettings(steps=20, every=5), path)
    frames = read(path, ":")
    energies = [frame.get_potential_energy() for frame in frames]
    np.testing.assert_allclose(energies, record.potential, atol=1e-6)
    assert frames[-1].get_kinetic_energy() == pytest.approx(record.kinetic[-1], abs=1e-6)


def test_report_sees_every_record():
    seen = []
    run_nve(
        crystal(),
        NVESettings(steps=20, every=5),
        report=lambda step, record: seen.append((step, len(record.time))),
    )
    assert seen == [(0, 1), (5, 2), (10, 3), (15, 4), (20, 5)]


def test_explosion_is_told_in_a_sentence():
    atoms = crystal()
    atoms.calc.potential.depth.data[:] = float("nan")
    with pytest.raises(DataError, match="not a finite number at step 0: the structure left"):
        run_nve(atoms, NVESettings(steps=10))


@pytest.mark.parametrize(
    "wrong", [{"timestep": 0}, {"every": 0}, {"steps": -1}, {"temperature": float("nan")}]
)
def test_settings_that_mean_nothing_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"{name} is .*: give a positive number"):
        NVESettings(**wrong)
