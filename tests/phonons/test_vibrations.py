from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from test_point_group import structure

from nequip.errors import DataError
from nequip.phonons.vibrations import Vibrations, thermochemistry, trajectory, vibrations


def pair_hessian(atoms: Atoms) -> np.ndarray:
    """Of springs between all pairs, soft at a distance, with a little stiffness across."""
    n, positions = len(atoms), atoms.positions
    matrix = np.zeros((n, n, 3, 3))
    for i in range(n):
        for j in range(i):
            bond = positions[i] - positions[j]
            k = 20 * np.exp(-np.linalg.norm(bond))
            block = k * np.outer(bond, bond) / (bond @ bond) + 0.03 * k * np.eye(3)
            matrix[[i, j], [i, j]] += block
            matrix[[i, j], [j, i]] -= block
    return matrix.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)


def found(name: str) -> Vibrations:
    atoms = structure(name)
    return vibrations(atoms, pair_hessian(atoms))


# As textbooks have them (Cotton; Herzberg): how often each is there.
IRREPS = {
    "CH4": {"A1": 1, "E": 1, "T2": 2},
    "H2O": {"A1": 2, "B2": 1},
    "NH3": {"A1": 2, "E": 2},
    "BF3": {"A1'": 1, "A2''": 1, "E'": 2},
    "C3H4_D2d": {"A1": 3, "B1": 1, "B2": 3, "E": 4},
    "C2H6": {"A1g": 3, "A1u": 1, "A2u": 2, "Eg": 3, "Eu": 3},
    "SF6": {"A1g": 1, "Eg": 1, "T2g": 1, "T1u": 2, "T2u": 1},
    "C6H6": {
        "A1g": 2, "A2g": 1, "A2u": 1, "B1u": 2, "B2g": 2, "B2u": 2, "E1g": 1, "E1u": 3, "E2g": 4, "E2u": 2
    },
    "CO2": {"Σg⁺": 1, "Σu⁺": 1, "Πu": 1},
    "HCN": {"Σ⁺": 2, "Π": 1},
    "S8 crown": {"A1": 2, "B1": 1, "B2": 1, "E1": 2, "E2": 3, "E3": 2},
    "C60": {
        "Ag": 2, "Au": 1, "T1g": 3, "T1u": 4, "T2g": 4, "T2u": 5, "Gg": 6, "Gu": 6, "Hg": 8, "Hu": 7
    },
}  # fmt: skip
DEGENERACY = {"A": 1, "B": 1, "E": 2, "T": 3, "G": 4, "H": 5, "Σ": 1, "Π": 2}


@pytest.mark.parametrize("name", IRREPS)
def test_irreps_are_those_of_textbooks(name: str):
    counts = Counter(symmetry.irrep for symmetry in found(name).symmetries)
    assert {irrep: count / DEGENERACY[irrep[0]] for irrep, count in counts.items()} == IRREPS[name]


@pytest.mark.parametrize(
    ("name", "infrared", "raman"),
    [
        ("CH4", {"T2"}, {"A1", "E", "T2"}),
        ("H2O", {"A1", "B2"}, {"A1", "B2"}),
        ("CO2", {"Σu⁺", "Πu"}, {"Σg⁺"}),
        ("SF6", {"T1u"}, {"A1g", "Eg", "T2g"}),
        ("C6H6", {"A2u", "E1u"}, {"A1g", "E1g", "E2g"}),
        ("BF3", {"A2''", "E'"}, {"A1'", "E'"}),
    ],
)
def test_activity(name: str, infrared: set[str], raman: set[str]):
    symmetries = found(name).symmetries
    assert {s.irrep for s in symmetries if s.infrared} == infrared
    assert {s.irrep for s in symmetries if s.raman} == raman


@pytest.mark.parametrize(("name", "number"), [("H2O", 3), ("CO2", 4), ("CH4", 9), ("C6H6", 30)])
def test_number_of_modes(name: str, number: int):
    assert len(found(name).frequencies) == number


def test_a_dimer_vibrates_at_its_reduced_mass():
    """ω² = k / μ."""
    atoms, k = Atoms("HF", [[0, 0, 0], [0, 0, 0.92]]), 60.0
    spring = np.zeros((6, 6))
    spring[np.ix_([2, 5], [2, 5])] = k * np.array([[1, -1], [-1, 1]])
    mass = np.prod(atoms.get_masses()) / atoms.get_masses().sum()
    (frequency,) = vibrations(atoms, spring).frequencies
    energy = units._hbar * np.sqrt(k / mass * units._e / units._amu) * 1e10 / units._e
    assert frequency == pytest.approx(energy / units.invcm, rel=1e-6)


def test_rigid_motion_is_left_out_whatever_the_hessian_says_of_it():
    atoms = molecule("H2O")
    masses = atoms.get_masses()
    shifted = pair_hessian(atoms) + np.kron(np.outer(masses, masses), np.eye(3))  # holds the center of mass
    assert np.allclose(vibrations(atoms, shifted).frequencies, found("H2O").frequencies)


def test_modes_are_orthonormal():
    modes = found("CH4").modes.reshape(9, 15)
    assert np.allclose(modes @ modes.T, np.eye(9))


def test_water_of_pyscf(data_dir: Path):
    """Rotations are not quite zero modes there: projecting them out moves others by a wavenumber."""
    reference = np.load(data_dir / "pyscf_H2O_eq.npz")
    atoms = Atoms(reference["numbers"], reference["positions"])
    water = vibrations(atoms, reference["hessian"])
    assert np.allclose(water.frequencies, reference["freq_cm1"][6:], atol=1.0)
    assert [symmetry.irrep for symmetry in water.symmetries] == ["A1", "A1", "B2"]


def test_zero_point_energy_is_half_the_quanta():
    water = found("H2O")
    assert water.zero_point_energy == pytest.approx(0.5 * water.frequencies.sum() * units.invcm)
    thermo = thermochemistry(water, -1.0, 298.15)
    assert thermo["gibbs_energy"] == pytest.approx(thermo["enthalpy"] - 298.15 * thermo["entropy"])


def test_a_period_of_a_mode_begins_at_rest_and_moves_by_the_amplitude():
    water = found("H2O")
    frames = trajectory(water, 1, amplitude=0.2)
    moved = [np.linalg.norm(frame.positions - water.atoms.positions, axis=1).max() for frame in frames]
    assert moved[0] == 0
    assert max(moved) == pytest.approx(0.2)


def test_a_single_atom_is_refused():
    with pytest.raises(DataError, match="does not vibrate"):
        vibrations(Atoms("H"), np.zeros((3, 3)))


def test_thermochemistry_of_an_unstable_structure_is_refused():
    atoms = molecule("H2O")
    upside_down = vibrations(atoms, -pair_hessian(atoms))
    assert upside_down.unstable == 3
    with pytest.raises(DataError, match="3 modes are unstable"):
        thermochemistry(upside_down, 0.0, 300.0)
