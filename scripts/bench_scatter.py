"""Sums of edges onto their centers: every backend that runs here, and what torch and torch_scatter offer.

    python scripts/bench_scatter.py [--widths 128 1] [--edges 50000] [--atoms 1000] [--device cuda]

Each program must first agree with the reference in its sums and first derivatives: no time is reported
on a failing check. Whether it can train forces is checked too, by its second derivatives: "wrong" ones
are given without an error. Then all take turns, so that whatever else the machine does falls on each.
`with backward` is a forward call and the gradient by the values.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import torch
from bench_kernels_parts import machine

from nequip.errors import KernelError
from nequip.kernels.scatter import BACKENDS, segment_sum

Sum = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # relative to the largest value
CALLS = 10  # of each program in one turn


def main() -> None:
    """Parse, check, time, report."""
    options = parse()
    torch.set_num_threads(options.threads)
    about = machine.describe(options.device, options.threads)
    programs = backends(options.device) | others()
    rows: dict[str, object] = {}
    for width in options.widths:
        case = f"{options.edges} edges onto {options.atoms} atoms, {width} columns, {options.dtype}"
        print(f"\n{case}\n    {'':28}{'forward (ms)':>14}{'with backward':>15}  second derivatives")
        rows |= {f"{case}: {name}": row for name, row in measure(programs, options, width).items()}
    if options.output:
        options.output.write_text(json.dumps({"machine": about, "sums": rows}, indent=2) + "\n")


def parse() -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 1], help="columns of an edge")
    parser.add_argument("--edges", type=int, default=50_000)
    parser.add_argument("--atoms", type=int, default=1000)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20, help="timed turns of each program")
    parser.add_argument("--output", type=Path, help="write the figures here (docs/benchmarks/scatter.json)")
    return parser.parse_args()


def measure(
    programs: dict[str, Sum], options: argparse.Namespace, width: int
) -> dict[str, dict[str, object]]:
    """Figures of every program that agrees with the reference."""
    generator = torch.Generator().manual_seed(0)
    center = torch.randint(options.atoms, (options.edges,), generator=generator)
    counts = center.bincount(minlength=options.atoms)
    row_ptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]).to(options.device)
    values = torch.randn(options.edges, width, dtype=getattr(torch, options.dtype), generator=generator)
    values = values.to(options.device).requires_grad_()
    programs = {name: run for name, run in programs.items() if agrees(name, run, values, row_ptr)}
    rows: dict[str, dict[str, object]] = {}
    for name, (forward, both) in time_in_turns(programs, values, row_ptr, options).items():
        second = second_derivatives(programs[name])
        rows[name] = {"forward_ms": forward, "with_backward_ms": both, "second_derivatives": second}
        print(f"    {name:28}{forward:14.3f}{both:15.3f}  {second}")
    return rows


def backends(device: str) -> dict[str, Sum]:
    """Those that can run here; the others say why not."""
    values, row_ptr = torch.ones(3, 1, device=device), torch.tensor([0, 2, 3], device=device)
    runnable: dict[str, Sum] = {}
    for name in BACKENDS:
        try:
            segment_sum(values, row_ptr, backend=name)
        except KernelError as error:
            print(f"left out: {error}")
        else:
            runnable[name] = partial(segment_sum, backend=name)
    return runnable


def others() -> dict[str, Sum]:
    """What else there is; none of it is a backend."""

    def scatter_reduce(values: torch.Tensor, row_ptr: torch.Tensor) -> torch.Tensor:
        center = torch.repeat_interleave(row_ptr.diff(), output_size=len(values))
        zeros = values.new_zeros(len(row_ptr) - 1, values.shape[1])
        return zeros.scatter_reduce(0, center[:, None].expand_as(values), values, "sum")

    def segment_reduce(values: torch.Tensor, row_ptr: torch.Tensor) -> torch.Tensor:
        return torch.segment_reduce(values, "sum", offsets=row_ptr, axis=0)

    programs: dict[str, Sum] = {
        "(torch.scatter_reduce)": scatter_reduce,
        "(torch.segment_reduce)": segment_reduce,
    }
    if find_spec("torch_scatter") is not None:
        from torch_scatter import segment_csr

        programs["(torch_scatter.segment_csr)"] = segment_csr
    return programs


def gradient(run: Sum, values: torch.Tensor, row_ptr: torch.Tensor) -> torch.Tensor:
    """By the values, along weights of each atom."""
    sums = run(values, row_ptr)
    weights = torch.arange(sums.numel(), dtype=sums.dtype, device=sums.device).reshape(sums.shape)
    return torch.autograd.grad(sums, values, weights / sums.numel())[0]


def agrees(name: str, run: Sum, values: torch.Tensor, row_ptr: torch.Tensor) -> bool:
    """Whether sums and gradients are those of the reference."""
    pairs = (
        (run(values, row_ptr), segment_sum(values, row_ptr)),
        (gradient(run, values, row_ptr), gradient(segment_sum, values, row_ptr)),
    )
    good = all(bool((a - b).abs().max() <= TOLERANCE[values.dtype] * b.abs().max()) for a, b in pairs)
    if not good:
        print(f"    {name}: DISAGREES with the reference, not timed")
    return good


def second_derivatives(run: Sum) -> str:
    """On a small sum: forces by positions, then their square by a parameter, as training does it."""
    row_ptr = torch.tensor([0, 2, 2, 5])
    position = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None].requires_grad_()
    parameter = torch.ones(1, 3, dtype=torch.float64, requires_grad=True)

    def training_gradient(run: Sum) -> torch.Tensor:
        energy = run(position * parameter, row_ptr).pow(3).sum()
        (forces,) = torch.autograd.grad(energy, position, create_graph=True)
        return torch.autograd.grad(forces.square().sum(), parameter)[0]

    try:
        right = torch.allclose(training_gradient(run), training_gradient(segment_sum))
    except RuntimeError:
        return "none"
    return "right" if right else "wrong"


def time_in_turns(
    programs: dict[str, Sum], values: torch.Tensor, row_ptr: torch.Tensor, options: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Median milliseconds of a forward call, and of one with its gradient; the first round warms up."""
    clock = machine.Clock(options.device)
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in programs}
    for turn in range(options.rounds + 1):
        for name, run in programs.items():
            for seconds, call in zip(times[name], (run, partial(gradient_of, run)), strict=True):
                measured = [clock.timed(partial(call, values, row_ptr))[0] for _ in range(CALLS)]
                seconds += measured if turn > 0 else []
    return {name: (1e3 * median(forward), 1e3 * median(both)) for name, (forward, both) in times.items()}


def gradient_of(run: Sum, values: torch.Tensor, row_ptr: torch.Tensor) -> torch.Tensor:
    """A forward call and its gradient by the values, along ones."""
    sums = run(values, row_ptr)
    return torch.autograd.grad(sums, values, torch.ones_like(sums))[0]


if __name__ == "__main__":
    main()
