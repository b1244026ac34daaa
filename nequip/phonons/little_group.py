"""Force constants at any wave vector from as few products as its symmetry allows.

An operation of the space group that carries q to itself commutes with `Φ(q)`: with `Φ u` it gives `Φ T u`,
T its matrix. So a pattern u stands for all that the operations make of it, and where these span all patterns
one product is the whole matrix. Inversion with time reversal counts too: rock salt takes one product at Γ and
on lines of high symmetry, and three anywhere, instead of six.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms

from nequip.data.force_constants import ComplexArray
from nequip.data.frame import FloatArray
from nequip.phonons.bloch import BlochHessian
from nequip.phonons.space_group import SpaceOperation, at_atoms

CANDIDATES = 32  # patterns to choose from
SPANNED = 0.2  # of a unit vector: directions with less are left to another pattern


class _Symmetry(NamedTuple):
    """`Φ(q) = T Φ(q) T†`, or with time reversal `T Φ(q)* T†`, waves measured at the atoms."""

    matrix: ComplexArray
    reversed: bool

    def __call__(self, patterns: ComplexArray) -> ComplexArray:
        """Of columns."""
        return self.matrix @ (patterns.conj() if self.reversed else patterns)


class SymmetricHessian:
    """Φ of a BlochHessian, by its symmetry."""

    def __init__(self, hessian: BlochHessian, atoms: Atoms, operations: list[SpaceOperation]):
        self._hessian = hessian
        self._places = atoms.cell.scaled_positions(atoms.positions)
        self._operations = operations
        self._known: dict[bytes, ComplexArray] = {}  # patterns by the group that they are for

    def __call__(self, q: FloatArray) -> ComplexArray:
        """`Φ_IJ(q) = Σ_R ∂²E/∂x_0I ∂x_RJ exp(2πi q·R)`, [q, 3 atoms, 3 atoms] in eV/Å²."""
        q = np.atleast_2d(np.asarray(q, dtype=np.float64))
        groups = [self._group(wave) for wave in q]
        patterns = [self._patterns(group) for group in groups]
        gauges = [np.repeat(at_atoms(wave, self._places), 3)[:, None] for wave in q]
        rows = np.concatenate([(gauge * u).T for gauge, u in zip(gauges, patterns, strict=True)])
        numbers = [u.shape[1] for u in patterns]
        products = self._hessian.products(rows, np.repeat(q, numbers, axis=0)).cpu().numpy()
        found: list[ComplexArray] = []
        for group, u, gauge, y in zip(
            groups, patterns, gauges, np.split(products, np.cumsum(numbers)[:-1]), strict=True
        ):
            whole = _all_products(group, u, gauge.conj() * y.T)
            found.append(gauge * whole * gauge.conj().T)
        return np.array(found)

    def _group(self, q: FloatArray) -> list[_Symmetry]:
        """Operations that carry q to itself, or to one that differs by a reciprocal lattice vector."""
        group: list[_Symmetry] = []
        for operation in self._operations:
            difference = operation.of_wave(q) - q
            if np.abs(difference - np.round(difference)).max() < 1e-9:
                gauge = np.repeat(at_atoms(np.round(difference), self._places), 3)
                group.append(_Symmetry(gauge[:, None] * operation.matrix(), operation.reversed))
        return group

    def _patterns(self, group: list[_Symmetry]) -> ComplexArray:
        """As few columns as the group can make a basis of; the unit vectors where there is none."""
        if len(group) == 1:
            return np.eye(self._hessian.size, dtype=np.complex128)
        key = np.round(np.array([each.matrix for each in group]), 6).tobytes()
        key += bytes(each.reversed for each in group)
        if key not in self._known:
            self._known[key] = _fewest_patterns(group, self._hessian.size)
        return self._known[key]


def _fewest_patterns(group: list[_Symmetry], size: int) -> ComplexArray:
    """Of random patterns always the one that adds most directions, and those most evenly."""
    rng = np.random.default_rng(0)
    chosen: list[ComplexArray] = []
    basis = np.zeros((size, 0), dtype=np.complex128)
    while basis.shape[1] < size:
        best: tuple[int, float, ComplexArray, ComplexArray] | None = None
        for _ in range(CANDIDATES):
            u = rng.normal(size=(size, 1)) + 1j * rng.normal(size=(size, 1))
            u -= basis @ (basis.conj().T @ u)
            u /= np.linalg.norm(u)
            orbit = np.concatenate([each(u) for each in group], axis=1) * np.sqrt(size / len(group))
            orbit -= basis @ (basis.conj().T @ orbit)
            directions, lengths, _ = np.linalg.svd(orbit, full_matrices=False)
            number = int((lengths > SPANNED).sum())
            if best is None or (number, lengths[number - 1]) > best[:2]:
                best = number, float(lengths[number - 1]), u, directions[:, :number]
        assert best is not None
        chosen.append(best[2])
        basis = np.concatenate([basis, best[3]], axis=1)
    return np.concatenate(chosen, axis=1)


def _all_products(group: list[_Symmetry], u: ComplexArray, y: ComplexArray) -> ComplexArray:
    """Φ from `y = Φ u`, by least squares over all that the group makes of both."""
    if len(group) == 1:
        return y @ u.conj().T
    patterns = np.concatenate([each(u) for each in group], axis=1)
    products = np.concatenate([each(y) for each in group], axis=1)
    return products @ np.linalg.pinv(patterns, rcond=1e-8)
