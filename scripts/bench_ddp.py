"""Training by two processes on two cores against one on one core, with the same number of frames for each.

    python scripts/bench_ddp.py [--frames 5] [--seconds 60] [--size S] [--output docs/benchmarks/ddp.json]
    python scripts/bench_ddp.py --train aspirin.xyz [--frames 5] [--rounds 3]

The first times steps on clusters of seven molecules of water (as many atoms as aspirin) in float32, one
thread and one core for each process. The kinds of step take turns, so that whatever else the machine does
falls on all:

- one: the first process alone, while the other sleeps;
- apart: both, without a message: what the machine has to give;
- overlapped: torch's DDP, which adds up gradients in buckets of 1 MiB or what is given, while others are
  still computed;
- one bucket: torch's DDP with a single bucket, hence one message after the backward pass;
- flat: all gradients copied into one message after the backward pass, and back.

`of one` is twice the steps per second over those of one; `CPU ms` is the processor time of a step, which does
not count the waiting. The second runs whole trainings, `nequip-train`, and compares edges per second.
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import multiprocessing
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from nequip.data.graph import AtomicGraph

WARM_UP = 5  # turns
BUCKETS = {"overlapped": None, "overlapped, 0.1 MiB": 0.1, "one bucket": 1000.0}  # MiB
KINDS = ("one", "apart", *BUCKETS, "flat")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=5, help="in the batch of each process")
    parser.add_argument("--seconds", type=float, default=60.0, help="of all turns together")
    parser.add_argument("--size", choices=["S", "M", "L"], default="S", help="preset of NequIP")
    parser.add_argument("--train", type=Path, metavar="FILE", help="whole trainings on these frames")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each kind, in turns")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    if options.train:
        result = trainings(options.train.resolve(), options.frames, options.rounds)
    else:
        result = steps(options.frames, options.seconds, options.size)
    for kind, row in result.items():
        print(f"{kind:22}" + "".join(f"{value:10.2f} {name}" for name, value in row.items()))
    if options.output:
        known = json.loads(options.output.read_text()) if options.output.exists() else {}
        name = "training" if options.train else f"steps, {options.size}"
        known[name] = {"frames": options.frames, "kinds": result}
        options.output.write_text(json.dumps(known, indent=2) + "\n")


def steps(frames: int, seconds: float, size: str) -> dict[str, dict[str, float]]:
    """Medians over all turns and both processes, by kind."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        ranks = pool.starmap(work, [(rank, port, frames, seconds, size) for rank in range(2)], chunksize=1)
    rows: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        # A turn lasts as long as the slower of the two.
        walls = map(max, *(rank[kind]["wall"] for rank in ranks))
        cpus = [time for rank in ranks for time in rank[kind]["cpu"] if kind != "one" or rank is ranks[0]]
        wall, cpu = statistics.median(walls), statistics.median(cpus)
        share = 1.0 if kind == "one" else 2 * rows["one"]["ms"] / (1000 * wall)
        rows[kind] = {"ms": 1000 * wall, "CPU ms": 1000 * cpu, "of one": share}
    return rows


def work(rank: int, port: int, frames: int, seconds: float, size: str) -> dict[str, dict[str, list[float]]]:
    """Wall and processor times of one process, by kind."""
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    store = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    model, graph = potential_and_batch(frames, size)
    runs = {kind: make_step(kind, copy.deepcopy(model), graph) for kind in KINDS}
    times: dict[str, dict[str, list[float]]] = {kind: {"wall": [], "cpu": []} for kind in KINDS}
    start, turns, order = time.perf_counter(), 0, random.Random(0)
    while turns < WARM_UP + 5 or bool(agreed(time.perf_counter() - start < seconds)):
        for kind in order.sample(KINDS, len(KINDS)):
            distributed.barrier()
            wall, cpu = time.perf_counter(), time.process_time()
            if kind != "one" or rank == 0:
                runs[kind]()
            times[kind]["cpu"].append(time.process_time() - cpu)
            times[kind]["wall"].append(time.perf_counter() - wall)
        turns += 1
    distributed.destroy_process_group()
    return {
        kind: {name: each[WARM_UP:] for name, each in measured.items()} for kind, measured in times.items()
    }


def agreed(goes_on: bool) -> torch.Tensor:
    """Whether the first process goes on."""
    import torch
    from torch import distributed

    flag = torch.tensor(float(goes_on))
    distributed.broadcast(flag, 0)
    return flag


def make_step(kind: str, model: Any, graph: AtomicGraph) -> Callable[[], None]:
    """A training step of a kind."""
    import torch
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    stepped = model
    if kind in BUCKETS:
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        stepped = DistributedDataParallel(
            model, broadcast_buffers=False, gradient_as_bucket_view=True, bucket_cap_mb=BUCKETS[kind]
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        prediction = stepped(graph)
        loss = prediction.forces.square().mean() + prediction.energy.square().mean()
        if kind not in ("one", "apart"):
            # As in training: the sums of the terms are those of all processes.
            distributed.all_reduce(torch.stack([loss.detach(), loss.detach()]))
        optimizer.zero_grad()
        loss.backward()
        if kind == "flat":
            add_up([weight.grad for weight in model.parameters() if weight.grad is not None])
        optimizer.step()

    return step


def add_up(gradients: list[torch.Tensor]) -> None:
    """The mean of the gradients of all processes, in one message."""
    import torch
    from torch import distributed

    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(part.view_as(gradient))


def potential_and_batch(frames: int, size: str) -> tuple[Any, AtomicGraph]:
    """A NequIP and a batch of `frames` clusters of 21 atoms, as many as aspirin has."""
    from ase.build import molecule

    from nequip.data.frame import Frame
    from nequip.data.graph import collate
    from nequip.data.neighbors import TypeMapper, build_graph
    from nequip.model.nequip import NequIPConfig, build

    config = NequIPConfig(
        type_names=("H", "O"),
        r_max=5.0,
        size=size,
        avg_num_neighbors=15.0,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
    )
    model = build(config).train()
    graphs = []
    for seed in range(frames):
        atoms = molecule("H2O", cell=[3.1] * 3).repeat(2)[:21]
        atoms.rattle(0.05, seed=seed)
        frame = Frame(atoms.numbers, atoms.positions, atoms.cell.array, (False, False, False))
        graphs.append(build_graph(frame, TypeMapper(model.card.type_names), model.cutoffs))
    return model, collate(graphs)


class Rate(NamedTuple):
    """What an epoch of training came to."""

    edges: float  # per second
    waiting: float  # share of the time, for data


def trainings(file: Path, frames: int, rounds: int) -> dict[str, dict[str, float]]:
    """Edges per second of the best epoch: of one process, of two apart, of two together."""
    found: dict[str, list[Rate]] = {"one": [], "apart": [], "together": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds):
            for kind, rates in found.items():
                number = 2 if kind == "apart" else 1
                outputs = [Path(folder) / f"{kind}{turn}{each}" for each in range(number)]
                runs = [start(file, output, frames, wide=kind == "together") for output in outputs]
                if any(run.wait() for run in runs):
                    raise SystemExit(f"training failed: {kind}")
                each = [best_rate(output) for output in outputs]
                rates.append(Rate(sum(rate.edges for rate in each), max(rate.waiting for rate in each)))
    best = {kind: max(rates) for kind, rates in found.items()}
    return {
        kind: {
            "edges/s": rate.edges,
            "of one": rate.edges / best["one"].edges,
            "% waiting for data": 100 * rate.waiting,
        }
        for kind, rate in best.items()
    }


def start(file: Path, output: Path, frames: int, *, wide: bool) -> subprocess.Popen[bytes]:
    words = [
        *(f"data.file={file}", f"data.cache_dir={output.parent}/cache", f"output_dir={output}"),
        *("data.split.train=900", "data.split.val=2", f"data.batch.size={frames * (1 + wide)}"),
        *("trainer=ddp" if wide else "trainer=cpu", "trainer.accelerator=cpu", "trainer.report=false"),
        *("trainer.max_epochs=3", "trainer.check_val_every_n_epoch=3", "trainer.logging.progress=off"),
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "nequip.cli.main", "train", "-cn", "start", "model=nequip_s", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def best_rate(output: Path) -> Rate:
    with (output / "metrics.csv").open(newline="") as rows:
        return max(Rate(float(row["edges_per_s"]), float(row["data_wait"])) for row in csv.DictReader(rows))


if __name__ == "__main__":
    main()
