"""Operations of a crystal's space group on waves and on force constants.

With waves measured at the atoms, `Φ_IJ(q) = Σ_R Φ(0I, RJ) exp(2πi q·(R + s_J - s_I))`, an operation
`x -> W x + w` of the space group that carries atom I to I' gives `Φ_I'J'(W⁻ᵀ q) = Q Φ_IJ(q) Qᵀ`, Q its
Cartesian matrix; and `Φ(-q)` is the conjugate of `Φ(q)`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from nequip.data.force_constants import ComplexArray
from nequip.data.frame import FloatArray

TOLERANCE = 1e-5  # Å: what is not quite a symmetry is none, or constants would not be exact


@dataclass(frozen=True)
class SpaceOperation:
    """One operation of the space group, maybe with time reversal."""

    reciprocal: FloatArray  # [3, 3]: on wave vectors
    cartesian: FloatArray  # [3, 3]
    to: NDArray[np.int64]  # [atom]: the atom that this one is carried to
    reversed: bool

    def of_wave(self, q: FloatArray) -> FloatArray:
        """Where it carries q."""
        return (-1 if self.reversed else 1) * (self.reciprocal @ q)

    def matrix(self) -> FloatArray:
        """[3 atoms, 3 atoms] on displacements, waves measured at the atoms."""
        # column I has its 1 at the atom that I is carried to
        return np.kron(np.eye(len(self.to))[:, self.to], self.cartesian)

    def of_constants(self, constants: ComplexArray) -> ComplexArray:
        """[atom, 3, atom, 3] at the wave that it carries to, waves measured at the atoms."""
        turned = np.einsum("ab,ibjc,dc->iajd", self.cartesian, constants, self.cartesian, optimize=True)
        result = np.empty_like(turned)
        result[self.to[:, None], :, self.to[None, :], :] = turned.transpose(0, 2, 1, 3)
        return result.conj() if self.reversed else result


def space_operations(atoms: Atoms, improper: bool = True) -> list[SpaceOperation]:
    """The space group of a structure, each of its operations with time reversal and without.

    Args:
        improper: with reflections, which potentials that ignore parity do not keep.
    """
    import spglib  # of the extra "phonons", which molecules do without

    cell, places = np.array(atoms.cell), atoms.get_scaled_positions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how spglib 2 tells errors, at every call
        found = spglib.get_symmetry((cell, places, atoms.numbers), symprec=TOLERANCE)
    operations: list[SpaceOperation] = []
    for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
        if not improper and np.linalg.det(rotation) < 0:
            continue
        gaps = (places @ rotation.T + translation)[:, None] - places
        gaps = np.linalg.norm((gaps - np.round(gaps)) @ cell, axis=2)
        gaps[atoms.numbers[:, None] != atoms.numbers] = np.inf
        cartesian = cell.T @ rotation @ np.linalg.inv(cell.T)
        reciprocal = np.linalg.inv(rotation).T
        operations += [SpaceOperation(reciprocal, cartesian, gaps.argmin(1), back) for back in (False, True)]
    return operations


def at_atoms(q: FloatArray, places: FloatArray) -> ComplexArray:
    """Factors [atom] of patterns: `u_I exp(2πi q·R)` measured at cells is these times that at the atoms."""
    return np.exp(2j * np.pi * places @ q)
