"""Bands of a crystal of two atoms with a universal potential: exact ones, and those of displaced supercells.

    python scripts/bench_phonons.py nequix-mp-1-pft.nqx [--supercell 4] [--points 100]

CPU time of one process, in turns, the best of three; the accuracy of both routes is against the exact bands.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from phonopy import Phonopy

import nequip
from nequip.calculators import NequIPCalculator
from nequip.data.frame import FloatArray
from nequip.model.potential import Potential
from nequip.phonons.bands import band_structure, primitive_cell
from nequip.phonons.crystal import Phonons
from nequip.phonons.phonopy_files import Multiples, phonopy_atoms, to_phonopy

SALTS = {"NaCl": bulk("NaCl", "rocksalt", a=5.64), "MgO": bulk("MgO", "rocksalt", a=4.25)}
REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--supercell", type=int, default=4, metavar="N", help="cells along each vector (4)")
    parser.add_argument("--points", type=int, default=100, metavar="N", help="wave vectors (100)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    potential = nequip.load(options.model, dtype="float64")
    for name, crystal in SALTS.items():
        compare(name, potential, crystal, (options.supercell,) * 3, options.points)


def compare(name: str, potential: Potential, crystal: Atoms, multiples: Multiples, points: int) -> None:
    """Time all routes to the same bands, and print them."""
    atoms, path = primitive_cell(crystal)
    q = np.concatenate([line.q for line in band_structure(Phonons(potential, atoms), path, points)])

    def exact() -> FloatArray:
        return Phonons(potential, atoms).frequencies(q)

    def on_grid() -> FloatArray:
        return interpolated(to_phonopy(Phonons(potential, atoms), multiples), q)

    def by_displacements() -> FloatArray:
        return interpolated(displaced(potential, atoms, multiples), q)

    routes = {
        "exact, every q": exact,
        "exact on the grid of the supercell": on_grid,
        "displaced supercells": by_displacements,
    }
    times: dict[str, list[float]] = {route: [] for route in routes}
    found: dict[str, FloatArray] = {}
    for _ in range(REPEATS):
        for route, compute in routes.items():
            start = time.process_time()
            found[route] = compute()
            times[route].append(time.process_time() - start)
    for route, seconds in times.items():
        error = np.abs(found[route] - found["exact, every q"])
        print(
            f"{name:5}{route:36}{min(seconds):8.2f} s CPU, off by {error.mean():.4f} THz on average, "
            f"{error.max():.4f} at most ({len(q)} wave vectors)",
            flush=True,
        )


def displaced(potential: Potential, atoms: Atoms, multiples: Multiples) -> Phonopy:
    """Phonopy's own route."""
    cells = Phonopy(phonopy_atoms(atoms), np.diag(multiples), primitive_matrix=np.eye(3))
    cells.generate_displacements(distance=0.01)
    supercells = [
        Atoms(s.symbols, scaled_positions=s.scaled_positions, cell=s.cell, pbc=True)
        for s in cells.supercells_with_displacements
    ]
    calculator = NequIPCalculator(potential)
    cells.forces = np.array([result["forces"] for result in calculator.evaluate(supercells)])
    cells.produce_force_constants()
    return cells


def interpolated(cells: Phonopy, q: FloatArray) -> FloatArray:
    """Frequencies by phonopy."""
    return cells.run_qpoints(q).frequencies


if __name__ == "__main__":
    main()
