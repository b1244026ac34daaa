"""Published MACE and SevenNet weights here against the packages they come from: force evaluations.

    python scripts/bench_doors.py CASE [--dtype float32|float64] [--threads 2] [--rounds 5]
        [--output FILE.json]

Cases:
    ani500k    pretrained/ani500k_small_cc.npz (MACE, H C N O) on 192 atoms of water
    universal  a MACE of 128x0e+128x1o and 89 elements with random weights on 64 atoms of silicon
    sevennet   SevenNet-0 on 216 atoms of silicon

The rivals are mace-torch 0.3.16 and sevenn 0.13.0, each in a virtual environment of its own. The rival
writes or names the file that `nequip.load` then reads; equal forces are required before anything is timed;
the programs take turns, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
from ase.build import bulk
from bench import ROOT, Worker, check, time_in_turns, water_box

TORCH = "torch==2.13.0"
TOLERANCE = {"float32": 1e-4, "float64": 1e-8}  # relative difference of forces


@dataclass(frozen=True)
class Rival:
    """A published package, and how to install it."""

    worker: str
    environment: str
    installs: tuple[tuple[str, ...], ...]


MACE = Rival("mace_published", "peer-mace", ((TORCH, "mace-torch==0.3.16"),))
SEVENNET = Rival(
    "sevennet_published",
    "peer-sevenn",
    (
        (
            TORCH,
            "e3nn==0.5.6",
            "ase",
            "braceexpand",
            "pyyaml",
            "tqdm",
            "scikit-learn",
            "pandas",
            "torch_geometric",
        ),
        ("--no-deps", "sevenn==0.13.0"),
    ),
)


def silicon(repeats: int) -> ase.Atoms:
    """Cubic cells of diamond with displaced atoms."""
    atoms = bulk("Si", cubic=True) * (repeats, repeats, repeats)
    atoms.rattle(0.1, seed=0)
    return atoms


CASES = {
    "ani500k": (MACE, lambda: water_box(64)),
    "universal": (MACE, lambda: silicon(2)),
    "sevennet": (SEVENNET, lambda: silicon(3)),
}


def main() -> None:
    """Parse, prepare, time in turns, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--dtype", choices=TOLERANCE, default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="timed repetitions")
    parser.add_argument(
        "--environments", type=Path, default=ROOT / ".cache", help="where the rivals are installed"
    )
    parser.add_argument("--pretrained", type=Path, default=ROOT.parent / "shared" / "pretrained")
    parser.add_argument("--output", type=Path, help="append the figures to this JSON")
    options = parser.parse_args()
    rival, structure = CASES[options.case]
    peer_python = make_environment(options.environments / rival.environment, rival)
    with tempfile.TemporaryDirectory() as folder:
        problem = write_problem(Path(folder), structure(), options)
        programs = {"published": (peer_python, rival.worker)}
        programs |= {
            "ours": (sys.executable, "ours_loaded"),
            "ours_tables": (sys.executable, "ours_loaded_tables"),
        }
        workers: dict[str, Worker] = {}
        for name, (python, worker) in programs.items():  # in this order: the rival writes the file
            workers[name] = Worker(python, worker, problem, str(options.threads))
        check(workers, TOLERANCE[options.dtype])
        times = time_in_turns(workers, {"evaluate": tuple(workers)}, options.rounds)["evaluate"]
        for worker in workers.values():
            worker.close()
    report(times, len(structure()), options)


def make_environment(folder: Path, rival: Rival) -> Path:
    """The Python of a virtual environment with the rival; made once and kept."""
    python, installed = folder / "bin" / "python", folder / "complete"
    wanted = "\n".join(" ".join(packages) for packages in rival.installs)
    if not installed.exists() or installed.read_text() != wanted:
        print(f"installing {wanted.splitlines()} in {folder} (a few minutes, once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for packages in rival.installs:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        installed.write_text(wanted)
    return python


def write_problem(folder: Path, atoms: ase.Atoms, options: argparse.Namespace) -> Path:
    """What the programs read: the structure, the case, and where pretrained weights lie."""
    arrays = {"numbers": atoms.numbers, "positions": atoms.positions, "cell": np.asarray(atoms.cell)}
    np.savez(folder / "structure.npz", pbc=atoms.pbc, **arrays)
    problem = {"case": options.case, "dtype": options.dtype, "pretrained": str(options.pretrained.resolve())}
    (folder / "problem.json").write_text(json.dumps(problem))
    return folder


def report(times: dict[str, list[float]], num_atoms: int, options: argparse.Namespace) -> None:
    """A line for each of our programs and, where asked for, an entry of a file."""
    entry: dict[str, object] = {"case": options.case, "dtype": options.dtype, "threads": options.threads}
    entry |= {"processor": platform.processor() or platform.machine(), "atoms": num_atoms}
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in medians.items():
        each, ratio = 1000 * seconds / num_atoms, medians["published"] / seconds
        entry[f"{name}_ms_per_atom"] = each
        print(f"{options.case} {options.dtype}: {name:12} {each:8.3f} ms per atom, {ratio:6.1f} times")
    if options.output:
        entries = json.loads(options.output.read_text())["cases"] if options.output.exists() else []
        same = (options.case, options.dtype, options.threads)
        entries = [e for e in entries if (e["case"], e["dtype"], e["threads"]) != same]
        options.output.write_text(json.dumps({"cases": [*entries, entry]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
