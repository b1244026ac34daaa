"""Training by two processes on two cores against one on one core, with the same number of frames for each.

    python scripts/bench_ddp.py [--frames 5] [--seconds 20] [--output docs/benchmarks/ddp.json]

On clusters of seven molecules of water (as many atoms as aspirin), with a small NequIP in float32, one
thread for each process. Steps per second, from the median of the steps, of:

- one: a process alone;
- apart: two processes that do not know of each other, at the same time: what the machine has to give;
- ddp: two processes whose gradients are added up in buckets during the backward pass (torch's DDP);
- flat: two processes that add up all gradients in one message after the backward pass.

Numbers to compare are twice the steps of one: `apart` says how much of 2 this machine can reach.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

    from nequip.data.graph import AtomicGraph

WARM_UP = 5  # steps


class Case(NamedTuple):
    """How a process takes part."""

    kind: str  # one, apart, ddp, flat
    frames: int
    seconds: float
    port: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=5, help="in the batch of each process")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each kind, in turns")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"one": [], "apart": [], "ddp": [], "flat": []}
    for _ in range(options.rounds):
        for kind, results in found.items():
            results.append(measure(Case(kind, options.frames, options.seconds, free_port())))
    rows = {kind: max(results, key=lambda row: row["steps_per_s"]) for kind, results in found.items()}
    print(f"{'':8}{'steps/s':>10}{'of one':>9}{'exchange, ms':>14}{'CPU share':>11}")
    for kind, row in rows.items():
        row["of_one"] = (1 if kind == "one" else 2) * row["steps_per_s"] / rows["one"]["steps_per_s"]
        told = f"{row['steps_per_s']:10.2f}{row['of_one']:9.2f}{row['exchange_ms']:14.2f}{row['cpu']:11.2f}"
        print(f"{kind:8}{told}")
    if options.output:
        told = {"frames": options.frames, "kinds": rows}
        options.output.write_text(json.dumps(told, indent=2) + "\n")


def measure(case: Case) -> dict[str, float]:
    """Figures of one kind; of two processes the mean."""
    context = multiprocessing.get_context("spawn")
    size = 1 if case.kind == "one" else 2
    with context.Pool(size) as pool:
        results = pool.starmap(work, [(case, rank) for rank in range(size)], chunksize=1)
    return {name: statistics.fmean(result[name] for result in results) for name in results[0]}


def work(case: Case, rank: int) -> dict[str, float]:
    """Steps of one process; `cpu` is its share of a core, `exchange_ms` what follows the backward pass."""
    import torch
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    together, paired = case.kind in ("ddp", "flat"), case.kind != "one"
    if paired:
        store = f"tcp://127.0.0.1:{case.port}"
        distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    model, graph = potential_and_batch(case.frames)
    stepped: Any = model
    if case.kind == "ddp":
        warnings.filterwarnings("ignore", "`broadcast_buffers`", FutureWarning)
        stepped = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    times: list[float] = []
    exchanges: list[float] = []
    cpu, number, steps = 0.0, 0, int(1e9)
    while number < steps:
        start, cpu_start = time.perf_counter(), time.process_time()
        prediction = stepped(graph)
        loss = prediction.forces.square().mean() + prediction.energy.square().mean()
        if together:
            # As in training: the sums of the terms are those of all processes.
            distributed.all_reduce(torch.stack([loss.detach(), loss.detach()]))
        optimizer.zero_grad()
        loss.backward()
        exchanged = time.perf_counter()
        if case.kind == "flat":
            add_up(weights)
        exchanges.append(time.perf_counter() - exchanged)
        optimizer.step()
        times.append(time.perf_counter() - start)
        cpu += time.process_time() - cpu_start
        number += 1
        if number == WARM_UP:
            # The same number of steps in both, or one would wait for the other forever.
            agreed = torch.tensor(case.seconds / statistics.median(times))
            if paired:
                distributed.broadcast(agreed, 0)
            steps, cpu = WARM_UP + max(int(agreed), 5), 0.0
    if paired:
        distributed.barrier()
        distributed.destroy_process_group()
    times = times[WARM_UP:]
    return {
        "steps_per_s": 1 / statistics.median(times),
        "exchange_ms": 1000 * statistics.median(exchanges[WARM_UP:]),
        "cpu": cpu / sum(times),
    }


def add_up(weights: Sequence[torch.Tensor]) -> None:
    """The mean of the gradients of all processes, in one message."""
    import torch
    from torch import distributed

    gradients = [weight.grad for weight in weights if weight.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(part.view_as(gradient))


def potential_and_batch(frames: int) -> tuple[Any, AtomicGraph]:
    """A small NequIP and a batch of `frames` clusters of 21 atoms, as many as aspirin has."""
    from nequip.data.frame import Frame
    from nequip.data.graph import collate
    from nequip.data.neighbors import TypeMapper, build_graph
    from nequip.model.nequip import NequIPConfig, build

    config = NequIPConfig(
        type_names=("H", "O"),
        r_max=5.0,
        num_layers=3,
        l_max=1,
        num_features=32,
        avg_num_neighbors=15.0,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=0.0,
    )
    model = build(config).train()
    graphs = []
    for seed in range(frames):
        atoms = cluster()
        atoms.rattle(0.05, seed=seed)
        frame = Frame(atoms.numbers, atoms.positions, atoms.cell.array, (False, False, False))
        graphs.append(build_graph(frame, TypeMapper(model.card.type_names), model.cutoffs))
    return model, collate(graphs)


def cluster() -> Any:
    """Seven molecules of water."""
    from ase.build import molecule

    atoms = molecule("H2O", cell=[3.1] * 3).repeat(2)
    return atoms[:21]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    main()
