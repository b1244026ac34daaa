"""Force constants of a crystal as a label: those of a supercell, folded to the primitive cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
ComplexArray = NDArray[np.complex128]


@dataclass(frozen=True)
class ForceConstants:
    """`Φ(0I, RJ) = ∂²E/∂x_0I ∂x_RJ` in eV/Å², summed over all R that the supercell takes for one.

    So much a supercell knows. At waves that fit into it nothing else is needed: `exp(2πi q·R)` is the same
    for all those R.
    """

    supercell: IntArray  # [3, 3] rows: its lattice vectors, in whole numbers of those of the primitive cell
    cells: IntArray  # [cell, 3] R, one for each cell of the supercell
    values: FloatArray  # [cell, atom, 3, atom, 3]

    def waves(self) -> FloatArray:
        """All q [cell, 3] that fit into it, in units of the reciprocal lattice vectors; Γ first."""
        size = abs(round(float(np.linalg.det(self.supercell))))
        # q = S⁻¹ m for whole numbers m; in units of 1/size these are whole numbers too
        generators = np.round(size * np.linalg.inv(self.supercell)).astype(np.int64).T
        found = np.zeros((1, 3), dtype=np.int64)
        for generator in generators:
            multiples = np.unique(np.arange(size)[:, None] * generator % size, axis=0)
            found = np.unique((found[:, None] + multiples).reshape(-1, 3) % size, axis=0)
        assert len(found) == size
        return found / size

    def at(self, q: FloatArray) -> ComplexArray:
        """`Φ_IJ(q) = Σ_R Φ(0I, RJ) exp(2πi q·R)`, [3 atom, 3 atom], at one wave that fits."""
        size = 3 * self.values.shape[1]
        phases = np.exp(2j * np.pi * self.cells @ q)
        return np.tensordot(phases, self.values.reshape(-1, size, size), 1)


def folded(constants: FloatArray, owner: IntArray, shift: IntArray, supercell: IntArray) -> ForceConstants:
    """From constants between the atoms of one primitive cell and all atoms of the supercell.

    Args:
        constants: [atom, atom of supercell, 3, 3] eV/Å².
        owner: [atom of supercell] which atom of the primitive cell each is an image of.
        shift: [atom of supercell, 3] and how many lattice vectors away.
    """
    inverse = np.linalg.inv(supercell)
    # Shifts that differ by vectors of the supercell have the same place in it, between 0 and 1.
    places = np.round((shift @ inverse) % 1.0, 6) % 1.0
    _, first, number = np.unique(places, axis=0, return_index=True, return_inverse=True)
    values = np.zeros((len(first), len(constants), 3, len(constants), 3))
    values[number.reshape(-1), :, :, owner, :] = constants.transpose(1, 0, 2, 3)
    return ForceConstants(supercell, shift[first], values)
