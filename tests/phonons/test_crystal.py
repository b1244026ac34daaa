from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from small_potentials import Springs, ice, small_potential

from nequip.errors import DataError
from nequip.phonons.crystal import Phonons
from nequip.units import INVERSE_CM, THZ

K = 2.0  # eV/Å²


def springs(atoms: Atoms, length: float) -> Phonons:
    names = tuple(dict.fromkeys(atoms.get_chemical_symbols()))
    return Phonons(Springs(K, length, names), atoms)


def squares(phonons: Phonons, q: list[float]) -> np.ndarray:
    """ω² in eV Å⁻² amu⁻¹ times the mass of the first atom, over K."""
    frequencies = phonons.frequencies(np.array([q]))[0]
    return np.sign(frequencies) * (frequencies / THZ) ** 2 * phonons.atoms.get_masses()[0] / K


@pytest.mark.parametrize("q", [0.0, 0.1, 0.25, 0.5, 0.8])
def test_simple_cubic_along_the_bond(q: float):
    """Longitudinal ω² = (2k/m)(1 - cos qa), transverse 0."""
    found = squares(springs(bulk("Cu", "sc", a=2.5), 2.5), [q, 0, 0])
    assert np.allclose(np.sort(found), [0, 0, 2 * (1 - np.cos(2 * np.pi * q))], atol=1e-9)


@pytest.mark.parametrize("q", [0.0, 0.2, 0.5])
def test_monatomic_chain(q: float):
    atoms = Atoms("Cu", cell=[2.5, 9, 9], pbc=True)
    found = squares(springs(atoms, 2.5), [q, 0, 0])
    assert np.allclose(np.sort(found), [0, 0, 2 * (1 - np.cos(2 * np.pi * q))], atol=1e-9)


def test_fcc_at_x():
    """ω_L² = 8k/m, ω_T² = 4k/m."""
    found = squares(springs(bulk("Cu", "fcc", a=3.6), 3.6 / np.sqrt(2)), [0.5, 0.5, 0])
    assert np.allclose(found, [4, 4, 8], atol=1e-9)


@pytest.mark.parametrize("kind", ["sc", "fcc", "bcc"])
def test_dynamical_matrix_of_springs(kind: str):
    """`D = (k/m) Σ n̂n̂ᵀ (1 - cos q·n)` over the neighbors n."""
    atoms, length = (
        bulk("Cu", kind, a=3.0),
        {"sc": 3.0, "fcc": 3.0 / np.sqrt(2), "bcc": 1.5 * np.sqrt(3)}[kind],
    )
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3)
    bonds = grid[np.isclose(np.linalg.norm(grid @ atoms.cell, axis=1), length)]
    q = np.array([0.13, -0.21, 0.37])
    waves = 1 - np.cos(2 * np.pi * bonds @ q)
    unit = bonds @ atoms.cell / length
    want = K / atoms.get_masses()[0] * np.einsum("n,na,nb->ab", waves, unit, unit)
    assert np.allclose(springs(atoms, length).dynamical_matrices(q), want, atol=1e-10)


def test_acoustic_modes_at_gamma_vanish():
    phonons = Phonons(small_potential("nequip"), ice())
    smallest = np.sort(np.abs(phonons.frequencies(np.zeros((1, 3)))[0]))[:3]
    assert smallest.max() * INVERSE_CM / THZ < 0.1


def test_modes_of_the_cell_are_among_those_of_the_supercell_at_gamma():
    potential, atoms = small_potential("nequip"), ice()
    of_supercell = Phonons(potential, atoms.repeat((2, 1, 1))).dynamical_matrices(np.zeros((1, 3)))[0]
    of_cell = Phonons(potential, atoms).dynamical_matrices(np.array([[0, 0, 0], [0.5, 0, 0]]))
    found = np.sort(np.linalg.eigvalsh(of_cell).ravel())
    assert np.allclose(np.linalg.eigvalsh(of_supercell), found, atol=1e-8)


def test_group_velocity_of_a_chain():
    """ω = √(4k/m) |sin qa/2|, so dω/dk = a √(k/m) cos qa/2."""
    atoms, q = Atoms("Cu", cell=[2.5, 9, 9], pbc=True), 0.2
    velocity = springs(atoms, 2.5).group_velocities([[q, 0, 0]])[0, -1]
    want = 2.5 * np.sqrt(K / atoms.get_masses()[0]) * np.cos(np.pi * q) * THZ * 2 * np.pi
    assert np.allclose(velocity, [want, 0, 0], atol=1e-5)


def test_velocities_are_differences_of_frequencies():
    phonons, q, step = Phonons(small_potential("nequip"), ice()), np.array([[0.13, 0.21, 0.34]]), 1e-4
    reciprocal = np.linalg.inv(np.array(phonons.atoms.cell)).T
    moved = step * np.linalg.inv(reciprocal)[2]
    difference = (phonons.frequencies(q + moved) - phonons.frequencies(q - moved)) / (2 * step)
    assert np.allclose(phonons.group_velocities(q)[0, :, 2], difference[0], rtol=1e-4, atol=1e-4)


def test_unstable_modes_are_negative():
    atoms = bulk("Cu", "sc", a=2.3)  # compressed springs of 2.5 Å buckle
    assert Phonons(Springs(K, 2.5), atoms).frequencies([[0.5, 0, 0]]).min() < -1


def test_a_molecule_is_refused():
    with pytest.raises(DataError, match="periodic in three directions"):
        Phonons(small_potential("nequip"), molecule("H2O"))


def test_units_are_those_of_nature():
    """√(eV Å⁻² amu⁻¹) as a frequency, from CODATA as ASE has it."""
    angular = np.sqrt(units._e / units._amu) / 1e-10
    assert pytest.approx(angular / (2 * np.pi) * 1e-12, rel=1e-6) == THZ
    assert pytest.approx(angular / (2 * np.pi) / (100 * units._c), rel=1e-6) == INVERSE_CM
