"""NequIP and Allegro here against the published packages: force evaluations and training steps, in one run.

The rivals are nequip 0.19.1 and nequip-allegro 0.8.3.

    python scripts/bench.py [--model nequip|allegro] [--threads 2] [--rounds 5]
        [--published-aoti] [--device cpu|cuda] [--molecules 64] [--peer-python PATH] [--output FILE.json]

Makes the rival's environment (a virtual environment of its own, since its import name is ours), gives
all programs the same weights, requires equal forces, then times them in turns, so that whatever else
the machine does falls on all. Prints medians and ratios, and writes them as JSON.

The published package runs eagerly. With --published-aoti its model also runs as its nequip-compile
leaves it (AOTInductor, target ase; force evaluations only). Compiling takes four to ten CPU-minutes, once
for each model and number of threads: the result, with its weights, stays in .cache.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase
import numpy as np
from ase.build import molecule

ROOT = Path(__file__).parents[1]
WORKERS = Path(__file__).parent / "bench_workers"
PEER_PACKAGES = ["torch==2.13.0", "nequip==0.19.1", "nequip-allegro==0.8.3"]

SHARED = {
    "type_names": ["H", "C", "O"],
    "r_max": 5.0,
    "l_max": 2,
    "parity": True,
    "avg_num_neighbors": 50.0,
    "per_type_energy_scales": 1.0,
    "per_type_energy_shifts": 0.0,
}
# 4 layers, l_max 2, both parities, 32 features, radial MLP 2 x 64.
MODEL = SHARED | {"num_layers": 4, "num_features": 32, "radial_mlp_depth": 2, "radial_mlp_width": 64}
MODELS = {
    "nequip": MODEL,
    "allegro": SHARED
    | {
        "architecture": "allegro",
        "num_layers": 2,
        "num_scalar_features": 64,
        "num_tensor_features": 32,
        "radial_chemical_embed": {
            "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
            "num_bessels": 8,
            "bessel_trainable": False,
            "polynomial_cutoff_p": 6,
        },
        **{f"{mlp}_mlp_hidden_layers_depth": 1 for mlp in ("scalar_embed", "allegro", "readout")},
        **{f"{mlp}_mlp_hidden_layers_width": 64 for mlp in ("scalar_embed", "allegro", "readout")},
    },
}
TOLERANCE = 1e-4  # relative difference of forces in float32
# Ours with radial networks, with the tables that our calculators take in float32, and as one compiled file.
OURS = ("ours", "ours_tables", "ours_file")
# Threads of OpenMP wait for more work in a busy loop, which would take the cores from the next program.
PAUSE = 0.5  # seconds
CASES = {
    "forces_water": ("published", "published_aoti", *OURS),
    "train_step_ethanol_5": ("published", "ours"),
}


def main() -> None:
    """Parse, prepare, time in turns, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="nequip")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="timed repetitions of each case")
    parser.add_argument("--published-aoti", action="store_true", help="also against the compiled rival")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--molecules", type=int, default=64, help="of water, a cube of a whole number")
    parser.add_argument("--peer-python", type=Path, help="the Python of an environment with the rival")
    parser.add_argument("--peer-env", type=Path, default=ROOT / ".cache" / "peer-nequip")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    peer_python = options.peer_python or make_peer_environment(options.peer_env)
    with tempfile.TemporaryDirectory() as folder:
        problem = write_problem(Path(folder), MODELS[options.model], options.molecules)
        programs = {"published": peer_python} | dict.fromkeys(OURS, sys.executable)
        if options.model != "nequip":
            del programs["ours_tables"]  # only NequIP's radial networks can be tables
        if options.published_aoti:
            programs["published_aoti"] = peer_python
            compiled = make_compiled_rival(peer_python, problem, options)
            shutil.copytree(compiled, problem, dirs_exist_ok=True)
        # the rival first: where there are no weights yet, it draws those that all then use
        arguments = (problem, str(options.threads), options.device)
        workers = {name: Worker(python, name, *arguments) for name, python in programs.items()}
        check(workers, TOLERANCE)
        times = time_in_turns(workers, CASES, options.rounds)
        for worker in workers.values():
            worker.close()
    report(times, options)


def make_peer_environment(folder: Path) -> Path:
    """The Python of a virtual environment with the published package; made once and kept."""
    python = folder / "bin" / "python"
    installed, wanted = folder / "complete", "\n".join(PEER_PACKAGES)
    if not installed.exists() or installed.read_text() != wanted:
        print(f"installing {' '.join(PEER_PACKAGES)} in {folder} (a few minutes, once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
        installed.write_text(wanted)
    return python


def make_compiled_rival(peer_python: Path, problem: Path, options: argparse.Namespace) -> Path:
    """The folder of the rival's model.nequip.pt2 and its weights.npz; made once and kept."""
    key = hashlib.sha256(
        json.dumps([MODELS[options.model], PEER_PACKAGES, options.threads, options.device]).encode()
    ).hexdigest()[:12]
    folder = ROOT / ".cache" / f"peer-aoti-{key}"
    if not (folder / "complete").exists():
        print(f"compiling the published model in {folder} (four to ten CPU-minutes, once)", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        # AOTInductor lays out loops for the threads that it finds here: for one, nothing would be parallel
        environment = os.environ | {
            "OMP_NUM_THREADS": str(options.threads),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        make_checkpoint = [peer_python, WORKERS / "published_checkpoint.py", problem, folder]
        subprocess.run(make_checkpoint, check=True, env=environment)
        nequip_compile = [peer_python, "-m", "nequip.scripts.compile", folder / "model.ckpt"]
        nequip_compile += [folder / "model.nequip.pt2", "--data-path", folder / "example.pt"]
        nequip_compile += ["--mode", "aotinductor", "--device", options.device, "--target", "ase"]
        # elsewhere: our nequip would be found first in this folder
        subprocess.run(nequip_compile, check=True, env=environment, cwd=folder)
        (folder / "complete").touch()
    return folder


def write_problem(folder: Path, model: dict[str, object], molecules: int) -> Path:
    """The programs' input: the model, a water box for force evaluations, molecules for training."""
    systems = {"water": water_box(molecules)} | {f"ethanol_{i}": rattled_ethanol(i) for i in range(5)}
    arrays: dict[str, np.ndarray] = {}
    for name, atoms in systems.items():
        arrays |= {
            f"{name}/numbers": atoms.numbers,
            f"{name}/positions": atoms.positions,
            f"{name}/cell": np.asarray(atoms.cell),
            f"{name}/pbc": atoms.pbc,
        }
    np.savez(folder / "structures.npz", **arrays)
    (folder / "model.json").write_text(json.dumps(model))
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

    def __init__(self, python: str | Path, name: str, *arguments: str | Path):
        self.process = subprocess.Popen(
            [python, WORKERS / f"{name}.py", *arguments],
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


def check(workers: dict[str, Worker], tolerance: float) -> None:
    """No time is reported for programs that do not compute the same forces."""
    forces = {name: np.array(worker.ask("forces")["forces"]) for name, worker in workers.items()}
    published = forces.pop("published")
    for name, others in forces.items():
        error = np.abs(others - published).max() / np.abs(published).max()
        print(f"largest difference of forces, {name} and published: {error:.1e} relative", flush=True)
        if not error < tolerance:
            raise SystemExit("the programs disagree: no timing")


def time_in_turns(
    workers: dict[str, Worker], cases: dict[str, tuple[str, ...]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each case by each program; the first round warms up and is not counted."""
    times: dict[str, dict[str, list[float]]] = {}
    for case, programs in cases.items():
        for turn in range(rounds + 1):
            for name in (name for name in programs if name in workers):
                time.sleep(PAUSE)
                seconds = workers[name].ask(case)["seconds"]
                if turn > 0:
                    times.setdefault(case, {}).setdefault(name, []).append(seconds)
    return times


def report(times: dict[str, dict[str, list[float]]], options: argparse.Namespace) -> None:
    """A table on the terminal and, where asked for, a file."""
    rows: list[dict[str, str | float]] = []
    print(f"{'case':24}{'rival':16}{'rival, ms':>12}  {'ours':12}{'ours, ms':>12}{'ratio':>8}")
    for case, by_program in times.items():
        medians = {name: 1000 * statistics.median(seconds) for name, seconds in by_program.items()}
        for rival, program in itertools.product(medians, OURS):
            if rival in OURS or program not in medians:
                continue
            row = {"rival_ms": medians[rival], "ours_ms": medians[program]}
            row["ratio"] = row["rival_ms"] / row["ours_ms"]
            times_told = f"{row['rival_ms']:12.1f}  {program:12}{row['ours_ms']:12.1f}{row['ratio']:8.2f}"
            print(f"{case:24}{rival:16}{times_told}")
            rows.append({"case": case, "rival": rival, "ours": program} | row)
    processor = platform.processor() or platform.machine()
    machine = {"processor": processor, "threads": options.threads, "device": options.device}
    result = {
        "machine": machine,
        "atoms": 3 * options.molecules,
        "model": MODELS[options.model],
        "cases": rows,
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=2) + "\n")
        print(f"written to {options.output}")


if __name__ == "__main__":
    main()
