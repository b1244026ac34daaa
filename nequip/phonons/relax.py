"""Structures at rest, which harmonic vibrations are about."""

from __future__ import annotations

from ase import Atoms
from ase.constraints import FixSymmetry
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS, FIRE

from nequip.errors import DataError

MOST_STEPS = 1000


def relax(atoms: Atoms, max_force: float, *, cell: bool = False) -> Atoms:
    """A copy at rest, with its calculator.

    Args:
        max_force: eV/Å; the largest force that may remain.
        cell: relax the lattice too, to zero stress; positions and lattice keep their symmetry then.

    Raises:
        DataError: for a structure that does not come to rest in 1000 steps.
    """
    relaxed = atoms.copy()
    relaxed.calc = atoms.calc
    if cell:
        relaxed.set_constraint(FixSymmetry(relaxed, symprec=1e-3))
    moved = FrechetCellFilter(relaxed) if cell else relaxed
    with BFGS(moved, logfile=None) as quick:
        done = quick.run(fmax=max_force, steps=MOST_STEPS // 2)
    if not done:
        with FIRE(moved, logfile=None) as steady:
            done = steady.run(fmax=max_force, steps=MOST_STEPS // 2)
    if not done:
        raise DataError(
            f"{atoms.get_chemical_formula()} does not come to rest below {max_force:g} eV/Å: start nearer to "
            "a minimum, compute in float64, or allow a larger --max-force."
        )
    relaxed.set_constraint()
    return relaxed
