"""Phonons of a crystal: frequencies, modes and velocities at any wave vector."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from ase import Atoms

from nequip.data.force_constants import ComplexArray
from nequip.data.frame import FloatArray, Frame
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import DataError
from nequip.model.potential import Potential
from nequip.phonons.bloch import BlochHessian
from nequip.phonons.copies import MEMORY
from nequip.phonons.little_group import SymmetricHessian
from nequip.phonons.space_group import space_operations
from nequip.units import THZ

STEP = 1e-4  # Å⁻¹, of the differences that velocities are made of
DEGENERATE = 1e-4  # THz
GENERIC = (0.2673, 0.5345, 0.8018)  # a direction that no symmetry favours


class Correction(Protocol):
    """What a potential of short range leaves out, such as the field of a polar crystal (born.py)."""

    def __call__(self, q: FloatArray, direction: FloatArray | None) -> ComplexArray:
        """Added to the dynamical matrix at one q; `direction` says from where Γ is approached."""
        ...


class Phonons:
    """Harmonic vibrations of one primitive cell, which should be relaxed.

    Wave vectors q are in units of the reciprocal lattice vectors, frequencies in THz, those of unstable
    modes negative.
    """

    def __init__(
        self,
        potential: Potential,
        atoms: Atoms,
        memory: float = MEMORY,
        correction: Correction | None = None,
    ):
        """Prepare the derivatives; every q is then exact, see SymmetricHessian and BlochHessian.

        Args:
            memory: GB that the derivatives may take.

        Raises:
            DataError: for a structure that is not periodic in three directions.
            ModelError: where memory does not hold one cell.
        """
        if not atoms.pbc.all() or atoms.cell.rank < 3:
            raise DataError("phonons need a crystal, periodic in three directions: set its cell and pbc.")
        frame = Frame(
            atoms.numbers.astype(np.int64), atoms.positions.copy(), np.array(atoms.cell), (True,) * 3
        )
        graph = build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)
        device = next((p.device for p in potential.parameters()), graph.positions.device)
        self.atoms = atoms
        self.correction = correction
        # a potential that ignores parity need not be the same in a mirror
        self.operations = space_operations(atoms, potential.card.config.get("parity") != "ignored")
        hessian = BlochHessian(potential, graph.to(device), memory)
        self._hessian = SymmetricHessian(hessian, atoms, self.operations)
        self._inverse_root = np.repeat(atoms.get_masses() ** -0.5, 3)

    def force_constants(self, q: FloatArray) -> ComplexArray:
        """`Φ_IJ(q) = Σ_R ∂²E/∂x_0I ∂x_RJ exp(2πi q·R)`, [q, 3 atoms, 3 atoms] in eV/Å²."""
        return self._hessian(q)

    def dynamical_matrices(self, q: FloatArray, directions: FloatArray | None = None) -> ComplexArray:
        """`D_IJ = Φ_IJ(q) exp(2πi q·(s_J - s_I)) / √(m_I m_J)`, s in units of the cell; [q, 3n, 3n].

        Waves are measured at the atoms, as phonopy does. Made Hermitian, and corrected.

        Args:
            directions: from where each q that is Γ is approached, for the correction.
        """
        q = np.atleast_2d(q)
        angle = 2 * np.pi * np.repeat(q @ self.atoms.cell.scaled_positions(self.atoms.positions).T, 3, axis=1)
        gauge = np.exp(1j * angle) * self._inverse_root
        full = gauge.conj()[:, :, None] * self.force_constants(q) * gauge[:, None, :]
        full = 0.5 * (full + full.conj().transpose(0, 2, 1))
        if self.correction is not None:
            towards = [None] * len(q) if directions is None else directions
            full = full + np.array([self.correction(*pair) for pair in zip(q, towards, strict=True)])
        return full

    def modes(self, q: FloatArray, directions: FloatArray | None = None) -> tuple[FloatArray, ComplexArray]:
        """Frequencies [q, mode], ascending, and eigenvectors of D [q, 3 atoms, mode]."""
        squares, vectors = np.linalg.eigh(self.dynamical_matrices(q, directions))
        return signed_frequencies(squares), vectors

    def frequencies(self, q: FloatArray) -> FloatArray:
        """[q, mode] in THz, ascending."""
        return signed_frequencies(np.linalg.eigvalsh(self.dynamical_matrices(q)))

    def group_velocities(self, q: FloatArray) -> FloatArray:
        """`∂ω/∂k = e†(∂D/∂k) e / 2ω`, [q, mode, 3] in THz Å (100 m/s); zero where ω is.

        ∂D/∂k by central differences. Modes of one frequency are taken such that ∂D along a generic direction
        is diagonal among them.
        """
        q = np.atleast_2d(q)
        reciprocal = np.linalg.inv(np.array(self.atoms.cell)).T  # without 2π: k = q @ reciprocal, Å⁻¹
        steps = STEP * np.linalg.inv(reciprocal)  # rows: a step along x, y, z in units of q
        frequencies, vectors = self.modes(q)
        slopes = [
            (self.dynamical_matrices(q + step) - self.dynamical_matrices(q - step)) / (2 * STEP)
            for step in steps
        ]
        return np.array(
            [
                _velocities(omega, e, [slope[n] for slope in slopes])
                for n, (omega, e) in enumerate(zip(frequencies, vectors, strict=True))
            ]
        )


def signed_frequencies(squares: FloatArray, unit: float = THZ) -> FloatArray:
    """Roots of eigenvalues in eV Å⁻² amu⁻¹ in THz (or another unit), negative for negative ones."""
    return np.sign(squares) * np.sqrt(np.abs(squares)) * unit


def _velocities(omega: FloatArray, vectors: ComplexArray, slopes: list[ComplexArray]) -> FloatArray:
    """Of the modes at one q."""
    velocities = np.zeros((len(omega), 3))
    along = sum(share * slope for share, slope in zip(GENERIC, slopes, strict=True))
    starts = np.flatnonzero(np.diff(omega) > DEGENERATE) + 1
    for modes in np.split(np.arange(len(omega)), starts):
        if abs(omega[modes[0]]) < DEGENERATE:
            continue
        e = vectors[:, modes]
        e = e @ np.linalg.eigh(e.conj().T @ along @ e)[1]
        for axis, slope in enumerate(slopes):
            change = np.einsum("am,ab,bm->m", e.conj(), slope, e).real
            velocities[modes, axis] = change * THZ**2 / (2 * np.abs(omega[modes]))
    return velocities
