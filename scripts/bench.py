"""NequIP here against the published nequip 0.19.1: force evaluations and training steps, in one run.

    python scripts/bench.py [--threads 2] [--rounds 5] [--output docs/benchmarks/nequip_eager.json]

Makes the rival's environment (a virtual environment of its own, since its import name is ours), gives
both programs the same weights, requires equal forces, then times them in turns, so that whatever else
the machine does falls on both. Prints medians and ratios, and writes them as JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import ase
import numpy as np
from ase.build import molecule

ROOT = Path(__file__).parents[1]
WORKERS = Path(__file__).parent / "bench_workers"
PEER_PACKAGES = ["torch==2.13.0", "nequip==0.19.1"]

# The model of the issue: 4 layers, l_max 2, both parities, 32 features, radial MLP 2 x 64.
MODEL = {
    "type_names": ["H", "C", "O"],
    "r_max": 5.0,
    "num_layers": 4,
    "l_max": 2,
    "parity": True,
    "num_features": 32,
    "radial_mlp_depth": 2,
    "radial_mlp_width": 64,
    "avg_num_neighbors": 50.0,
    "per_type_energy_scales": 1.0,
    "per_type_energy_shifts": 0.0,
}
TOLERANCE = 1e-4  # relative difference of forces in float32


def main() -> None:
    """Parse, prepare, time in turns, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="timed repetitions of each case")
    parser.add_argument("--peer-env", type=Path, default=ROOT / ".cache" / "peer-nequip")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    peer_python = make_peer_environment(options.peer_env)
    with tempfile.TemporaryDirectory() as folder:
        problem = write_problem(Path(folder))
        programs = {"published": peer_python, "ours": sys.executable}
        # the rival first: it draws the weights that both then use
        workers = {name: Worker(python, name, problem, options.threads) for name, python in programs.items()}
        check(workers)
        times = time_in_turns(workers, options.rounds)
        for worker in workers.values():
            worker.close()
    report(times, options)


def make_peer_environment(folder: Path) -> Path:
    """The Python of a virtual environment with the published package; made once and kept."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing {' '.join(PEER_PACKAGES)} in {folder} (a few minutes, once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
        (folder / "complete").touch()
    return python


def write_problem(folder: Path) -> Path:
    """Both programs' input: the model, a water box for force evaluations, molecules for training."""
    systems = {"water_192": water_box(64)} | {f"ethanol_{i}": rattled_ethanol(i) for i in range(5)}
    arrays: dict[str, np.ndarray] = {}
    for name, atoms in systems.items():
        arrays |= {
            f"{name}/numbers": atoms.numbers,
            f"{name}/positions": atoms.positions,
            f"{name}/cell": np.asarray(atoms.cell),
            f"{name}/pbc": atoms.pbc,
        }
    np.savez(folder / "structures.npz", **arrays)
    (folder / "model.json").write_text(json.dumps(MODEL))
    return folder


def water_box(molecules: int) -> ase.Atoms:
    """Molecules at the density of water on a jittered grid, turned at random."""
    rng = np.random.default_rng(0)
    per_side = round(molecules ** (1 / 3))
    spacing = (1 / 0.0334) ** (1 / 3)  # Å, 0.0334 molecules per cubic Å
    box = ase.Atoms(cell=np.eye(3) * spacing * per_side, pbc=True)
    for corner in np.ndindex(per_side, per_side, per_side):
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(spacing * np.array(corner) + rng.normal(0, 0.1, 3))
        box += water
    return box


def rattled_ethanol(seed: int) -> ase.Atoms:
    """Ethanol with displaced atoms."""
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=seed)
    return atoms


class Worker:
    """One program in a process of its own, asked for one thing at a time."""

    def __init__(self, python: str | Path, name: str, problem: Path, threads: int):
        self.process = subprocess.Popen(
            [python, WORKERS / f"{name}.py", problem, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.ask("ready")

    def ask(self, request: str) -> dict[str, float | list[float]]:
        """Send one word, wait for one line of JSON."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} died at {request!r}: run it by hand to see why")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def check(workers: dict[str, Worker]) -> None:
    """No time is reported for programs that do not compute the same forces."""
    published, ours = (np.array(workers[name].ask("forces")["forces"]) for name in ("published", "ours"))
    error = np.abs(ours - published).max() / np.abs(published).max()
    print(f"largest difference of forces: {error:.1e} relative", flush=True)
    if not error < TOLERANCE:
        raise SystemExit("the programs disagree: no timing")


def time_in_turns(workers: dict[str, Worker], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of each case by each program; the first round warms up and is not counted."""
    times: dict[str, dict[str, list[float]]] = {}
    for case in ("forces_water_192", "train_step_ethanol_5"):
        for turn in range(rounds + 1):
            for name, worker in workers.items():
                seconds = worker.ask(case)["seconds"]
                if turn > 0:
                    times.setdefault(case, {}).setdefault(name, []).append(seconds)
    return times


def report(times: dict[str, dict[str, list[float]]], options: argparse.Namespace) -> None:
    """A table on the terminal and, where asked for, a file."""
    machine = {"processor": platform.processor() or platform.machine(), "threads": options.threads}
    result: dict[str, object] = {"machine": machine, "model": MODEL, "cases": {}}
    print(f"{'case':24}{'published, ms':>16}{'ours, ms':>12}{'ratio':>8}")
    for case, by_program in times.items():
        published, ours = (1000 * statistics.median(by_program[name]) for name in ("published", "ours"))
        print(f"{case:24}{published:16.1f}{ours:12.1f}{published / ours:8.2f}")
        result["cases"][case] = {"published_ms": published, "ours_ms": ours, "ratio": published / ours}
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written to {options.output}")


if __name__ == "__main__":
    main()
