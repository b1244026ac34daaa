"""Structures of H, O and Si, in cells as LAMMPS wants them."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk

ELEMENTS = ("H", "O", "Si")


def crystal(cells: int | tuple[int, int, int], seed: int = 0) -> Atoms:
    """A cubic crystal of three elements by chance, displaced by chance."""
    atoms = bulk("Al", a=4.4, cubic=True) * cells
    rng = np.random.default_rng(seed)
    atoms.set_chemical_symbols(rng.choice(ELEMENTS, len(atoms)))
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    return atoms


def molecule() -> Atoms:
    atoms = crystal((2, 1, 1), seed=1)
    atoms.set_cell(np.eye(3) * 30.0)
    atoms.center()
    atoms.pbc = False
    return atoms


def triclinic(cells: int = 1) -> Atoms:
    """With one cell a box that is smaller than the cutoff."""
    atoms = crystal(cells, seed=2)
    atoms.set_cell(np.array([[4.4, 0, 0], [1.5, 4.6, 0], [-1.0, 0.7, 4.2]]) * cells, scale_atoms=True)
    return atoms


def slab() -> Atoms:
    atoms = crystal(2, seed=3)
    atoms.set_cell([[8.8, 0, 0], [1.0, 8.8, 0], [0, 0, 8.8]], scale_atoms=True)
    atoms.center(vacuum=10.0, axis=2)
    atoms.pbc = (True, True, False)
    return atoms


def half_empty() -> Atoms:
    """All atoms in the lower third of the box, so that some processes own none."""
    atoms = crystal((2, 2, 1), seed=5)
    atoms.cell[2, 2] *= 3
    atoms.positions[:, 2] += 1.0  # none of them wrapped to the upper end
    return atoms


STRUCTURES = {"molecule": molecule(), "bulk": crystal(2, seed=4), "triclinic": triclinic(), "slab": slab()}
