"""Time the neighbor search of vesin against matscipy's, on the same structures.

    python scripts/bench_neighbors.py [--r-max 5.0] [--seconds 1.0] [--json FILE]

Silicon crystals with displaced atoms, periodic and cut out as clusters without a cell; one thread.
The times are those of the search alone, the best of as many repeats as fit into `--seconds`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from ase import Atoms
from ase.build import bulk
from matscipy.neighbours import neighbour_list
from vesin import NeighborList

SIZES = {64: (2, 2, 2), 1000: (5, 5, 5), 20_000: (25, 10, 10)}  # cells of 8 atoms


def crystal(num_atoms: int, periodic: bool) -> Atoms:
    """Displaced silicon, in its cell or in none."""
    atoms = bulk("Si", cubic=True) * SIZES[num_atoms]
    atoms.rattle(0.05, seed=0)
    atoms.pbc = periodic
    return atoms


def with_vesin(atoms: Atoms, r_max: float) -> int:
    """Number of directed pairs."""
    search = NeighborList(cutoff=r_max, full_list=True, sorted=False, n_threads=1)
    (center, *_) = search.compute(atoms.positions, atoms.cell.array, atoms.pbc.tolist(), quantities="ijSd")
    return len(center)


def with_matscipy(atoms: Atoms, r_max: float) -> int:
    """Number of directed pairs."""
    found = neighbour_list(
        "ijSd", cutoff=r_max, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc
    )
    return len(found[0])


def best_time(search: Callable[[Atoms, float], int], atoms: Atoms, r_max: float, seconds: float) -> float:
    """Seconds of the fastest repeat."""
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        search(atoms, r_max)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--r-max", type=float, default=5.0, help="cutoff in Å")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for each number")
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args()
    rows = []
    print(f"{'atoms':>7} {'cell':10}{'pairs':>10}{'vesin (ms)':>13}{'matscipy (ms)':>15}{'ratio':>8}")
    for num_atoms in SIZES:
        for periodic in (True, False):
            atoms = crystal(num_atoms, periodic)
            pairs = with_vesin(atoms, options.r_max)
            assert pairs == with_matscipy(atoms, options.r_max)
            vesin, matscipy = (
                1e3 * best_time(search, atoms, options.r_max, options.seconds)
                for search in (with_vesin, with_matscipy)
            )
            kind = "periodic" if periodic else "none"
            print(
                f"{num_atoms:>7} {kind:10}{pairs:>10}{vesin:>13.3f}{matscipy:>15.3f}{matscipy / vesin:>8.2f}"
            )
            rows.append(
                {"atoms": num_atoms, "cell": kind, "pairs": pairs, "vesin_ms": vesin, "matscipy_ms": matscipy}
            )
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"r_max": options.r_max, "rows": rows}, file, indent=2)


if __name__ == "__main__":
    main()
