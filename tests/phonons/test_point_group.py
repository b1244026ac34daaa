from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from nequip.phonons.point_group import find_point_group

OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)])


def structure(name: str) -> Atoms:
    if name == "SF6":
        return Atoms("SF6", np.concatenate([np.zeros((1, 3)), 1.56 * OCTAHEDRON]))
    if name == "CHFClBr":
        return Atoms(
            "CHFClBr", [[0, 0, 0], [0.6, 0.6, 0.6], [-0.8, -0.8, 0.8], [-1, 1, -1], [1.1, -1.1, -1.1]]
        )
    if name == "S8 crown":
        angle = np.arange(8) * np.pi / 4
        return Atoms(
            "S8", np.stack([2.3 * np.cos(angle), 2.3 * np.sin(angle), 0.5 * (-1.0) ** np.arange(8)], 1)
        )
    return molecule(name)


GROUPS = {
    "CHFClBr": ("C1", 1),
    "HCOOH": ("Cs", 1),
    "H2O2": ("C2", 2),
    "H2O": ("C2v", 2),
    "NH3": ("C3v", 3),
    "CH4": ("Td", 12),
    "SF6": ("Oh", 24),
    "C60": ("Ih", 60),
    "C2H4": ("D2h", 4),
    "C2H6": ("D3d", 6),
    "C3H4_D2d": ("D2d", 4),
    "BF3": ("D3h", 6),
    "C6H6": ("D6h", 12),
    "S8 crown": ("D4d", 8),
    "CO2": ("D∞h", 2),
    "HCN": ("C∞v", 1),
}


@pytest.mark.parametrize("name", GROUPS)
def test_group_and_symmetry_number(name: str):
    group = find_point_group(structure(name))
    assert (group.name, group.rotational) == GROUPS[name]


@pytest.mark.parametrize("name", GROUPS)
def test_orientation_and_small_errors_do_not_matter(name: str):
    atoms = structure(name)
    atoms.positions = atoms.positions @ Rotation.random(random_state=1).as_matrix().T
    atoms.rattle(5e-4, seed=1)
    assert find_point_group(atoms).name == GROUPS[name][0]


@pytest.mark.parametrize("name", ["CH4", "C6H6", "C3H4_D2d"])
def test_operations_are_closed(name: str):
    matrices = [operation.matrix for operation in find_point_group(structure(name)).operations]
    for a in matrices:
        for b in matrices:
            assert min(np.abs(a @ b - c).max() for c in matrices) < 1e-2


def test_an_isotope_by_element_lowers_the_symmetry():
    atoms = structure("CH4")
    atoms.symbols[1] = "F"
    assert find_point_group(atoms).name == "C3v"
