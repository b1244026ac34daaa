"""Exact phonons as phonopy knows them: force constants of a supercell, its objects and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from phonopy import Phonopy
from phonopy.file_IO import write_FORCE_CONSTANTS
from phonopy.structure.atoms import PhonopyAtoms

from nequip.data.frame import FloatArray
from nequip.phonons.crystal import Phonons
from nequip.phonons.symmetry import grid_force_constants

Multiples = tuple[int, int, int]
SUPERCELL_LENGTH = 12.0  # Å, the least


def default_supercell(atoms: Atoms) -> Multiples:
    """So many cells along each lattice vector that they are 12 Å or more."""
    a, b, c = (int(np.ceil(SUPERCELL_LENGTH / length)) for length in atoms.cell.lengths())
    return a, b, c


def phonopy_atoms(atoms: Atoms) -> PhonopyAtoms:
    """The same structure."""
    return PhonopyAtoms(
        numbers=atoms.numbers, cell=np.array(atoms.cell), positions=atoms.positions, masses=atoms.get_masses()
    )


def to_phonopy(phonons: Phonons, multiples: Multiples, force_constants: FloatArray | None = None) -> Phonopy:
    """A Phonopy object with the force constants of a supercell, which phonopy interpolates from.

    At wave vectors that are commensurate with the supercell its dynamical matrices are exact.

    Args:
        force_constants: where they are known already.
    """
    cells = Phonopy(phonopy_atoms(phonons.atoms), np.diag(multiples), primitive_matrix=np.eye(3))
    if force_constants is None:
        force_constants = supercell_force_constants(phonons, cells, multiples)
    cells.force_constants = force_constants
    return cells


def supercell_force_constants(phonons: Phonons, cells: Phonopy, multiples: Multiples) -> FloatArray:
    """`Φ(0I, RJ) = Σ_q Φ_IJ(q) exp(-2πi q·R) / N` over the commensurate q: those of the supercell itself.

    [atom of the primitive cell, atom of the supercell, 3, 3] in eV/Å².
    """
    atoms, supercell = phonons.atoms, cells.supercell
    grid, at_q = grid_force_constants(phonons, multiples)
    owner = np.array([supercell.u2u_map[index] for index in supercell.s2u_map])
    inverse = np.linalg.inv(np.array(atoms.cell))
    shift = np.round((supercell.positions - atoms.positions[owner]) @ inverse)
    waves = np.exp(-2j * np.pi * shift @ grid.T) / len(grid)
    constants = np.einsum("sq,qiasb->isab", waves, at_q[:, :, :, owner, :], optimize=True)
    return np.ascontiguousarray(constants.real)


def write_phonopy(cells: Phonopy, folder: Path) -> tuple[Path, Path]:
    """`phonopy.yaml` and `FORCE_CONSTANTS` in `folder`."""
    yaml, constants = folder / "phonopy.yaml", folder / "FORCE_CONSTANTS"
    cells.save(yaml, settings={"force_constants": False, "force_sets": False, "displacements": False})
    write_FORCE_CONSTANTS(cells.force_constants, constants, p2s_map=cells.primitive.p2s_map)
    return yaml, constants
