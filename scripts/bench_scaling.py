"""Allegro from 192 to 50,000 atoms of water: time and memory of a force evaluation, by the number of atoms.

    python scripts/bench_scaling.py [--threads 2] [--output docs/benchmarks/allegro_scaling.json]

Each size runs in a process of its own, since memory is the most that a process ever held. The model has
the shape of bench.py's Allegro, with fresh weights, in float32.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

MOLECULES_PER_SIDE = (4, 8, 16, 26)  # 192, 1536, 12,288 and 52,728 atoms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, help="measure this size alone and print it as JSON")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    if options.side is not None:
        print(json.dumps(measure(options.side, options.threads)))
        return
    rows: list[dict[str, float]] = []
    print(f"{'atoms':>8}{'ms':>12}{'ms per atom':>14}{'memory, GB':>12}{'kB per atom':>13}")
    for side in MOLECULES_PER_SIDE:
        command = [sys.executable, __file__, "--side", str(side), "--threads", str(options.threads)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(row)
        told = (
            f"{row['ms']:12.1f}{row['ms_per_atom']:14.3f}{row['memory_gb']:12.2f}{row['kb_per_atom']:13.1f}"
        )
        print(f"{row['atoms']:8.0f}{told}", flush=True)
    if options.output:
        options.output.write_text(json.dumps({"threads": options.threads, "sizes": rows}, indent=2) + "\n")


def measure(side: int, threads: int) -> dict[str, float]:
    """Milliseconds (the best of some calls) and the memory that the evaluation took beyond what was held."""
    import torch
    from bench import water_box

    from allegro.config import AllegroConfig
    from nequip.data.frame import Frame
    from nequip.data.neighbors import TypeMapper, build_graph
    from nequip.model.registry import build_potential

    torch.set_num_threads(threads)
    config = AllegroConfig(
        type_names=("H", "O"),
        r_max=5.0,
        l_max=2,
        parity=True,
        num_layers=2,
        num_scalar_features=64,
        num_tensor_features=32,
        avg_num_neighbors=50.0,
        per_type_energy_scales=None,
        per_type_energy_shifts=None,
    )
    model = build_potential(config).eval().requires_grad_(False)
    atoms = water_box(side**3)
    frame = Frame(atoms.numbers, atoms.positions, atoms.cell.array, (True, True, True))
    graph = build_graph(frame, TypeMapper(model.card.type_names), model.cutoffs)
    before = most_held()
    times: list[float] = []
    for _ in range(2 if side > 10 else 5):
        start = time.perf_counter()
        model(graph)
        times.append(time.perf_counter() - start)
    count, taken = len(atoms), most_held() - before
    best = 1000 * min(times)
    return {
        "atoms": count,
        "ms": best,
        "ms_per_atom": best / count,
        "memory_gb": taken / 1e9,
        "kb_per_atom": taken / 1e3 / count,
    }


def most_held() -> int:
    """The most bytes that this process ever held; getrusage would include the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
