"""Force constants on a grid of wave vectors from those that no symmetry relates.

With waves measured at the atoms, `Φ_IJ(q) = Σ_R Φ(0I, RJ) exp(2πi q·(R + s_J - s_I))`, an operation
`x -> W x + w` of the space group that carries atom I to I' gives `Φ_I'J'(W⁻ᵀ q) = Q Φ_IJ(q) Qᵀ`, Q its
Cartesian matrix; and `Φ(-q)` is the conjugate of `Φ(q)`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import spglib
from ase import Atoms
from numpy.typing import NDArray

from nequip.data.frame import FloatArray
from nequip.phonons.crystal import ComplexArray, Phonons

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

    def of_constants(self, constants: ComplexArray) -> ComplexArray:
        """[atom, 3, atom, 3] at the wave that it carries to, waves measured at the atoms."""
        turned = np.einsum("ab,ibjc,dc->iajd", self.cartesian, constants, self.cartesian, optimize=True)
        result = np.empty_like(turned)
        result[self.to[:, None], :, self.to[None, :], :] = turned.transpose(0, 2, 1, 3)
        return result.conj() if self.reversed else result


def space_operations(atoms: Atoms) -> list[SpaceOperation]:
    """The space group of a structure, each of its operations with time reversal and without."""
    cell, places = np.array(atoms.cell), atoms.get_scaled_positions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how spglib 2 tells errors, at every call
        found = spglib.get_symmetry((cell, places, atoms.numbers), symprec=TOLERANCE)
    operations: list[SpaceOperation] = []
    for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
        gaps = (places @ rotation.T + translation)[:, None] - places
        gaps = np.linalg.norm((gaps - np.round(gaps)) @ cell, axis=2)
        gaps[atoms.numbers[:, None] != atoms.numbers] = np.inf
        cartesian = cell.T @ rotation @ np.linalg.inv(cell.T)
        reciprocal = np.linalg.inv(rotation).T
        operations += [SpaceOperation(reciprocal, cartesian, gaps.argmin(1), back) for back in (False, True)]
    return operations


def grid_force_constants(phonons: Phonons, mesh: tuple[int, int, int]) -> tuple[FloatArray, ComplexArray]:
    """All q of a grid around Γ [q, 3], and `Φ` as Phonons.force_constants [q, atom, 3, atom, 3]."""
    atoms = phonons.atoms
    places = atoms.cell.scaled_positions(atoms.positions)
    grid = np.stack(np.meshgrid(*map(np.arange, mesh), indexing="ij"), -1).reshape(-1, 3) / np.array(mesh)
    operations = space_operations(atoms)
    origin: dict[int, tuple[int, SpaceOperation]] = {}  # of each point: whom it is carried from, and how
    for point, q in enumerate(grid):
        if point not in origin:
            for operation in operations:
                origin.setdefault(_number(operation.of_wave(q), mesh), (point, operation))
    sources = sorted({source for source, _ in origin.values()})
    shape = (len(atoms), 3, len(atoms), 3)
    computed = dict(zip(sources, phonons.force_constants(grid[sources]).reshape(-1, *shape), strict=True))
    result = np.empty((len(grid), *shape), dtype=np.complex128)
    for point in range(len(grid)):
        source, operation = origin[point]
        q = grid[source]
        turned = operation.of_constants(computed[source] * _at_atoms(q, places))
        result[point] = turned * _at_atoms(operation.of_wave(q), places).conj()
    return grid, result


def _at_atoms(q: FloatArray, places: FloatArray) -> ComplexArray:
    """Factors that turn waves measured at cells into those measured at atoms."""
    wave = np.exp(2j * np.pi * places @ q)
    return (wave.conj()[:, None] * wave)[:, None, :, None]


def _number(q: FloatArray, mesh: tuple[int, int, int]) -> int:
    """Which point of the grid q is; -1 for none, where the grid has less symmetry than the crystal."""
    steps = q * mesh
    if np.abs(steps - np.round(steps)).max() > 1e-6:
        return -1
    return int(np.ravel_multi_index(np.round(steps).astype(int), mesh, mode="wrap"))
