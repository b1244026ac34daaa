"""The long-range field of polar crystals, which splits longitudinal from transverse modes at Γ.

A potential of finite range has no such field. From Born charges and the dielectric constant of another
calculation phonopy's dipole-dipole term (Gonze and Lee) is added between the wave vectors that are
commensurate with a supercell, where the potential is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from phonopy import Phonopy
from phonopy.file_IO import parse_BORN
from scipy.constants import physical_constants

from nequip.data.force_constants import ComplexArray
from nequip.data.frame import FloatArray
from nequip.errors import DataError
from nequip.phonons.crystal import Phonons
from nequip.phonons.phonopy_files import Multiples, phonopy_atoms, to_phonopy

# e²/(4πε₀) in eV Å: the factor of energies of dipoles
COULOMB = physical_constants["Hartree energy in eV"][0] * physical_constants["Bohr radius"][0] * 1e10


@dataclass(frozen=True)
class BornCharges:
    """What a polar crystal makes of its fields."""

    charges: FloatArray  # [atom, 3, 3] e: change of the dipole (first axis) by the position (second)
    dielectric: FloatArray  # [3, 3], of the electrons alone


def read_born(path: Path, atoms: Atoms) -> BornCharges:
    """A file BORN of phonopy, for the primitive cell.

    Raises:
        DataError: if it cannot be read, or is of another structure.
    """
    cells = Phonopy(phonopy_atoms(atoms), np.eye(3), primitive_matrix=np.eye(3))
    try:
        found = parse_BORN(cells.primitive, filename=path)
    except Exception as error:
        raise DataError(f"{path} is no file BORN of this structure ({error}).") from error
    return BornCharges(found["born"], found["dielectric"])


class FieldCorrection:
    """What the field adds to the dynamical matrix (crystal.Correction)."""

    def __init__(self, phonons: Phonons, born: BornCharges, multiples: Multiples):
        """Take the force constants of a supercell, `multiples` of the cell."""
        self._plain = to_phonopy(phonons, multiples)
        self._polar = to_phonopy(phonons, multiples, self._plain.force_constants)
        self._polar.nac_params = {
            "born": born.charges,
            "dielectric": born.dielectric,
            "factor": COULOMB,
            "method": "gonze",
        }

    def __call__(self, q: FloatArray, direction: FloatArray | None) -> ComplexArray:
        """See crystal.Correction."""
        matrices = []
        for cells in (self._polar, self._plain):
            matrix = cells.dynamical_matrix
            towards = {"q_direction": direction} if cells is self._polar and _is_gamma(q) else {}
            matrix.run(q, **towards)
            matrices.append(matrix.dynamical_matrix)
        return matrices[0] - matrices[1]


def _is_gamma(q: FloatArray) -> bool:
    return bool(np.abs(q).max() < 1e-8)
