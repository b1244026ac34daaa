"""The calculator of a potential that knows an electric field."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.calculator import PropertyNotImplementedError
from field_potentials import field_potential

from nequip.calculators import NequIPCalculator
from nequip.errors import ModelError

STEP = 1e-4  # V/Å


@pytest.fixture
def water():
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    return atoms


def calculator(**options) -> NequIPCalculator:
    return NequIPCalculator(field_potential("nequip"), **options)


def test_dipole_polarizability_and_born_charges_are_those_of_a_field(water):
    plain = calculator()
    dipole, alpha = plain.get_property("dipole", water), plain.get_polarizability(water)
    charges = plain.get_born_charges(water)
    assert np.abs(dipole).max() > 1e-3
    for axis in range(3):
        up, down = (calculator(electric_field=sign * STEP * np.eye(3)[axis]) for sign in (1, -1))
        energy = up.get_potential_energy(water) - down.get_potential_energy(water)
        assert -energy / (2 * STEP) == pytest.approx(dipole[axis], abs=1e-8)
        change = up.get_property("dipole", water) - down.get_property("dipole", water)
        assert np.allclose(change / (2 * STEP), alpha[axis], rtol=0, atol=1e-8)
        forces = up.get_forces(water) - down.get_forces(water)
        assert np.allclose(forces / (2 * STEP), charges[:, axis], rtol=0, atol=1e-8)


def test_asking_for_born_charges_changes_nothing_else(water):
    computing = calculator()
    before = computing.get_potential_energy(water)
    computing.get_born_charges(water)
    assert not computing.potential.predict_born_charges
    assert computing.get_potential_energy(water) == before


def test_evaluate_takes_the_field_too(water):
    computing = calculator(electric_field=(0.0, 0.0, 0.1))
    results = computing.evaluate([water, water])
    expected = computing.get_potential_energy(water)
    assert [result["energy"] for result in results] == pytest.approx([expected] * 2, abs=1e-10)
    assert results[1]["dipole"] == pytest.approx(computing.get_property("dipole", water), abs=1e-10)


def test_a_plain_potential_has_no_dipole(water):
    plain = NequIPCalculator(field_potential("nequip", electric_field=False))
    with pytest.raises(PropertyNotImplementedError):
        plain.get_property("dipole", water)
    for ask in (plain.get_polarizability, plain.get_born_charges, plain.get_raman_tensors):
        with pytest.raises(ModelError, match=r"knows no electric field.*model.electric_field=true"):
            ask(water)
    with pytest.raises(ModelError, match="knows no electric field"):
        NequIPCalculator(field_potential("nequip", electric_field=False), electric_field=(0, 0, 1))
