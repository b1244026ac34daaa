"""Molecular dynamics in LAMMPS with a compiled NequIP: per step, by ranks, and what LAMMPS adds to the model.

    python scripts/bench_lammps.py [--rounds 3] [--output FILE.json]

The model is that of bench.py (4 layers, l_max 2, both parities, 32 features, float32, random weights).

- water_192: one step on two threads against one force evaluation of the published package, which its ASE
  calculator needs at least for a step; in turns.
- overhead_1029: one step on one thread against the bare call of the compiled model on the same structure.
- ranks_3993: steps on two ranks against one, each rank with one thread.

LAMMPS with its plugin (`make plugin`) has to be there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ase
import numpy as np
import torch
from ase.io.lammpsdata import write_lammps_data
from bench import MODEL, PAUSE, ROOT, Worker, make_peer_environment, water_box, write_problem

from nequip.data.frame import Frame
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.export.artefact import Artefact
from nequip.interop import from_published
from nequip.model.potential import Potential
from nequip.nn.exchange import owners
from nequip.nn.geometry import edge_geometry

BIN = Path(sys.executable).parent
PLUGIN = ROOT / "build" / "lammps_plugin" / "nequipplugin.so"
ELEMENTS = ("H", "O")
SCRIPT = """
units metal
atom_style atomic
newton on
plugin load {plugin}
read_data structure.data
pair_style nequip
pair_coeff * * {model} {elements}
neighbor 1.0 bin
timestep 0.0005
velocity all create 300.0 1 mom yes rot yes
fix integrate all nve
run 5
run {steps}
"""


def main() -> None:
    """Parse, compile, time, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="timed repetitions")
    parser.add_argument("--peer-env", type=Path, default=ROOT / ".cache" / "peer-nequip")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        problem = write_problem(folder, MODEL, 64)
        published = Worker(make_peer_environment(options.peer_env), "published", problem, "2", "cpu")
        potential = from_published(MODEL, dict(np.load(folder / "weights.npz")), dtype="float32")
        model, seconds = compile_model(potential, folder)
        figures = {"export_s": seconds, "artefact_MB": model.stat().st_size / 1e6}
        figures |= water_192(published, model, folder, options.rounds)
        published.close()
        figures |= overhead(potential, model, folder, options.rounds)
        figures |= ranks(model, folder, options.rounds)
    for key, value in figures.items():
        print(f"{key:32}{value:10.3f}")
    if options.output:
        options.output.write_text(json.dumps({"model": MODEL, "figures": figures}, indent=2) + "\n")


def compile_model(potential: Potential, folder: Path) -> tuple[Path, float]:
    """The artefact, and how long `nequip-compile` took."""
    potential.save(folder / "model.nequip")
    model = folder / "model.nequip.pt2"
    start = time.perf_counter()
    command = [BIN / "nequip-compile", folder / "model.nequip", model, "--target", "lammps"]
    subprocess.run(command, check=True)
    return model, time.perf_counter() - start


def water_192(published: Worker, model: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Milliseconds of a step of 64 molecules of water on two threads."""
    ours: list[float] = []
    rival: list[float] = []
    published.ask("forces_water")
    for _ in range(rounds):
        time.sleep(PAUSE)
        rival.append(published.ask("forces_water")["seconds"])
        time.sleep(PAUSE)
        ours.append(step(water_box(64), model, folder, steps=50, threads=2))
    result = {
        "water_192 published, ms": 1000 * statistics.median(rival),
        "water_192 LAMMPS, ms": 1000 * statistics.median(ours),
    }
    return result | {"water_192 ratio": statistics.median(rival) / statistics.median(ours)}


def overhead(potential: Potential, model: Path, folder: Path, rounds: int) -> dict[str, float]:
    """A step of 1029 atoms on one thread, and the call of the model alone."""
    atoms = water_box(343)
    torch.set_num_threads(1)
    frame = Frame(atoms.numbers, atoms.positions, np.asarray(atoms.cell), (True, True, True))
    graph = build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)
    geometry = edge_geometry(graph)
    vectors = (geometry.unit * geometry.length.unsqueeze(1)).contiguous()
    artefact = Artefact(model)
    inputs = [vectors, graph.types, graph.center, graph.neighbor, graph.row_ptr]
    steps: list[float] = []
    calls: list[float] = []
    for _ in range(rounds):
        with owners(torch.zeros(0, dtype=torch.int64)):
            artefact.run(inputs)
            start = time.perf_counter()
            for _ in range(5):
                artefact.run(inputs)
        calls.append((time.perf_counter() - start) / 5)
        steps.append(step(atoms, model, folder, steps=10, threads=1))
    call, whole = statistics.median(calls), statistics.median(steps)
    return {
        "overhead_1029 model, ms": 1000 * call,
        "overhead_1029 LAMMPS, ms": 1000 * whole,
        "overhead_1029 added, %": 100 * (whole / call - 1),
    }


def ranks(model: Path, folder: Path, rounds: int) -> dict[str, float]:
    """Steps of 3993 atoms on one rank and on two."""
    atoms = water_box(1331)
    one, two = [], []
    for _ in range(rounds):
        one.append(step(atoms, model, folder, steps=5, threads=1))
        two.append(step(atoms, model, folder, steps=5, threads=1, ranks=2))
    single, double = statistics.median(one), statistics.median(two)
    return {
        "ranks_3993 one, ms": 1000 * single,
        "ranks_3993 two, ms": 1000 * double,
        "ranks_3993 ratio": single / double,
    }


def step(atoms: ase.Atoms, model: Path, folder: Path, *, steps: int, threads: int, ranks: int = 1) -> float:
    """Seconds of a step, as LAMMPS tells them, after five that are not counted."""
    with (folder / "structure.data").open("w") as file:
        write_lammps_data(file, atoms, specorder=list(ELEMENTS), masses=True, units="metal")
    script = SCRIPT.format(plugin=PLUGIN, model=model, elements=" ".join(ELEMENTS), steps=steps)
    (folder / "in.lammps").write_text(script)
    command = [str(BIN / "lmp"), "-log", "none", "-in", "in.lammps"]
    if ranks > 1:
        command = [str(BIN / "mpirun"), "-np", str(ranks), *command]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    found = re.findall(r"Loop time of (\S+) on \d+ procs for (\d+) steps", done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"LAMMPS failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    seconds, count = found[-1]
    return float(seconds) / int(count)


if __name__ == "__main__":
    main()
