from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import phonopy
import pytest
from ase import Atoms
from ase.build import bulk
from phonopy import Phonopy
from small_potentials import Springs, ice, small_potential

from nequip.calculators import NequIPCalculator
from nequip.phonons.bands import band_structure, primitive_cell
from nequip.phonons.born import BornCharges, FieldCorrection, read_born
from nequip.phonons.crystal import Phonons
from nequip.phonons.dos import density_of_states, mesh_modes, thermal_properties
from nequip.phonons.phonopy_files import phonopy_atoms, to_phonopy, write_phonopy
from nequip.units import COULOMB_CONSTANT, THZ

COMMENSURATE = np.array([[0.5, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5]])


@cache
def salt() -> Phonons:
    """Springs between unlike and, through the same cutoff, like atoms of rock salt."""
    return Phonons(Springs(1.5, 2.82, ("Na", "Cl"), 4.1), bulk("NaCl", "rocksalt", a=5.64))


def by_displacements(potential, atoms: Atoms, multiples: tuple[int, int, int]) -> Phonopy:
    """Phonopy's own route: forces on displaced supercells."""
    cells = Phonopy(phonopy_atoms(atoms), np.diag(multiples), primitive_matrix=np.eye(3))
    cells.generate_displacements(distance=1e-4)
    calculator = NequIPCalculator(potential)
    supercells = [
        Atoms(s.symbols, scaled_positions=s.scaled_positions, cell=s.cell, pbc=True)
        for s in cells.supercells_with_displacements
    ]
    cells.forces = np.array([result["forces"] for result in calculator.evaluate(supercells)])
    cells.produce_force_constants()
    return cells


def frequencies(cells: Phonopy, q: np.ndarray) -> np.ndarray:
    cells.run_qpoints(q)
    return cells.qpoints.frequencies


def test_phonopy_finds_the_same_frequencies_from_displaced_supercells():
    potential = small_potential("nequip")
    theirs = by_displacements(potential, ice(), (2, 2, 2))
    exact = Phonons(potential, ice()).frequencies(COMMENSURATE)
    assert np.allclose(frequencies(theirs, COMMENSURATE), exact, atol=1e-4)


def test_force_constants_are_those_of_displaced_supercells():
    potential = small_potential("nequip")
    ours = to_phonopy(Phonons(potential, ice()), (2, 1, 2)).force_constants
    theirs = by_displacements(potential, ice(), (2, 1, 2))
    assert np.allclose(ours, theirs.force_constants[theirs.primitive.p2s_map], atol=1e-5)


def test_files_are_read_by_phonopy(tmp_path: Path):
    yaml, constants = write_phonopy(to_phonopy(salt(), (2, 2, 2)), tmp_path)
    read = phonopy.load(yaml, force_constants_filename=constants, is_nac=False)
    assert np.allclose(frequencies(read, COMMENSURATE), salt().frequencies(COMMENSURATE), atol=1e-4)


def test_thermal_properties_are_those_of_phonopy():
    temperatures = np.array([0.0, 100.0, 300.0])
    cells = to_phonopy(salt(), (2, 2, 2))
    cells.run_mesh([6, 6, 6], is_gamma_center=True, is_mesh_symmetry=False)
    cells.run_thermal_properties(temperatures=temperatures, cutoff_frequency=1e-3)
    theirs = cells.thermal_properties
    # springs do not reach beyond the supercell, so that phonopy's interpolation is exact
    ours = thermal_properties(mesh_modes(salt(), (6, 6, 6)), temperatures)
    assert np.allclose(ours.free_energy, theirs.free_energy, atol=1e-4)
    assert np.allclose(ours.entropy, theirs.entropy, atol=1e-3)
    assert np.allclose(ours.heat_capacity, theirs.heat_capacity, atol=1e-3)


def test_heat_capacity_reaches_dulong_and_petit():
    hot = thermal_properties(mesh_modes(salt(), (4, 4, 4)), np.array([5000.0]))
    assert hot.heat_capacity[0] == pytest.approx(3 * 2 * 8.314463 * (1 - hot.left_out), rel=1e-3)


def test_density_of_states_counts_all_modes():
    dos = density_of_states(salt(), mesh_modes(salt(), (5, 5, 5)))
    assert np.trapezoid(dos.total, dos.frequency) == pytest.approx(6, rel=1e-6)
    assert np.allclose(sum(dos.by_element.values()), dos.total)
    assert np.trapezoid(dos.by_element["Na"], dos.frequency) == pytest.approx(3, rel=1e-6)


def test_irreducible_mesh_has_the_modes_of_the_full_one():
    modes = mesh_modes(salt(), (4, 4, 4))
    grid = np.stack(np.meshgrid(*[np.arange(4) / 4] * 3), -1).reshape(-1, 3)
    assert len(modes.q) < len(grid) / 4
    full = salt().frequencies(grid)
    assert (modes.weights @ modes.frequencies).sum() == pytest.approx(full.mean(0).sum(), rel=1e-9)


def test_bands_run_from_gamma_through_points_that_meet():
    primitive, path = primitive_cell(bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    assert len(primitive) == 2
    lines = band_structure(Phonons(Springs(1.5, 2.82, ("Na", "Cl"), 4.1), primitive), path, 40)
    assert lines[0].start == "GAMMA"
    assert np.allclose(lines[0].frequencies[0, :3], 0, atol=1e-3)
    assert np.allclose(lines[0].frequencies[-1], lines[1].frequencies[0], atol=1e-6)
    assert abs(sum(len(line.q) for line in lines) - 40) < 10


CHARGE, DIELECTRIC = 1.087, 2.435


@cache
def polar() -> Phonons:
    charges = np.array([np.eye(3), -np.eye(3)]) * CHARGE
    correction = FieldCorrection(salt(), BornCharges(charges, DIELECTRIC * np.eye(3)), (2, 2, 2))
    return Phonons(Springs(1.5, 2.82, ("Na", "Cl"), 4.1), salt().atoms, correction=correction)


def test_longitudinal_mode_splits_by_the_field():
    """`ω_LO² = ω_TO² + 4π e² Z² / (ε V μ)` of a diatomic cubic crystal."""
    direction = np.array([0.5, 0.5, 0.0])
    found = polar().modes([[0, 0, 0]], [direction])[0][0]
    transverse = salt().frequencies([[0, 0, 0]])[0, -1]
    sodium, chlorine = salt().atoms.get_masses()
    mass = sodium * chlorine / (sodium + chlorine)
    field = 4 * np.pi * COULOMB_CONSTANT * CHARGE**2 / (DIELECTRIC * salt().atoms.get_volume() * mass)
    assert np.allclose(found[3:5], transverse, atol=1e-4)
    assert found[5] == pytest.approx(THZ * np.sqrt((transverse / THZ) ** 2 + field), rel=1e-5)


def test_field_changes_nothing_at_commensurate_waves():
    assert np.allclose(polar().frequencies(COMMENSURATE), salt().frequencies(COMMENSURATE), atol=1e-5)


def test_longitudinal_mode_is_continuous_at_gamma():
    direction = np.array([0.5, 0.5, 0.0])
    at, near = polar().modes([[0, 0, 0], [1e-3, 1e-3, 0]], [direction, direction])[0]
    assert at[5] == pytest.approx(near[5], abs=1e-3)


def test_born_file_is_read(tmp_path: Path):
    lines = ["14.4", "2.435 0 0 0 2.435 0 0 0 2.435", "1.087 0 0 0 1.087 0 0 0 1.087"]
    lines.append("-1.087 0 0 0 -1.087 0 0 0 -1.087")
    (tmp_path / "BORN").write_text("\n".join(lines) + "\n")
    born = read_born(tmp_path / "BORN", salt().atoms)
    assert np.allclose(born.charges[1], -CHARGE * np.eye(3))
    assert np.allclose(born.dielectric, DIELECTRIC * np.eye(3))
