"""The convolution here against the e3nn product with `index_add_`, in one run on one machine.

    python scripts/bench_kernels.py [--cases 2x32 1x32 ...] [--backends cpu reference] [--dtype float64]
    python scripts/bench_kernels.py --cases --first-call --memory      # these two alone
    python scripts/bench_kernels.py --device cuda

A case is l_max x channels, both parities. Each program gets the same numbers on the same random graph and
must first agree with e3nn in values and in the gradients by x, sh and weight: no time is reported on a
failing check. Then forward and backward are timed in turns, so that whatever else the machine does falls
on all. With --device cuda, OpenEquivariance and cuEquivariance take part where they are installed.

--first-call: seconds until the first result of a fresh process, before kernels were built and after.
--memory: peak memory of a force evaluation of 20,000 atoms of water in a process of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np
import torch
from bench_kernels_parts import gpu_rivals, machine, processes, report
from bench_kernels_parts.counts import count
from bench_kernels_parts.problem import Case, Problem, Size, make_problem
from bench_kernels_parts.programs import Program, Results, e3nn, ours

from nequip.errors import KernelError
from nequip.kernels.backend import Backend, choose

CASES = [Case(2, 32), Case(1, 32), Case(3, 32), Case(2, 16), Case(2, 64), Case(2, 128)]
EVERY_CASE = [Case(l_max, channels) for l_max in (1, 2, 3) for channels in (16, 32, 64, 128)]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # relative to the largest value of each array
TURN = 0.2  # seconds: what is faster is repeated within a turn
# What e3nn holds at its peak for each edge, measured: so many times the columns of outputs and weights.
RIVAL_COPIES = 6
RESULTS = ("values", "gradient by x", "gradient by sh", "gradient by weight")

Make = Callable[[Problem], Program]
Result = TypeVar("Result")


def main() -> None:
    """Parse, measure what is asked for, report."""
    options = parse()
    torch.set_num_threads(options.threads)
    sections: dict[str, object] = {"machine": machine.describe(options.device, options.threads)}
    agreed = True
    if options.cases:
        rows, agreed = convolutions(options, sections)
        sections["convolution"] = rows
    if options.first_call:
        sections["first_call"] = processes.first_calls(options)
    if options.memory:
        sections["memory"] = processes.memory(options)
    if options.output:
        report.write(options.output, sections)
    if not agreed:
        raise SystemExit("some programs disagree with e3nn: their times are not reported")


def parse() -> argparse.Namespace:
    """Options of the command line."""
    backends = get_args(Backend)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--cases", nargs="*", type=Case.parse, default=CASES, help="such as 2x32; none: no timing"
    )
    chosen.add_argument("--every-case", action="store_const", dest="cases", const=EVERY_CASE)
    parser.add_argument("--backends", nargs="+", choices=backends, help="default: all that can run here")
    parser.add_argument("--rivals", nargs="*", choices=["openequivariance", "cuequivariance"])
    parser.add_argument("--atoms", type=int, default=600)
    parser.add_argument("--edges-per-atom", type=int, default=55)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="timed turns of each program")
    parser.add_argument(
        "--rival-gb", type=float, default=10.0, help="e3nn takes fewer atoms rather than more"
    )
    parser.add_argument("--first-call", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-atoms", type=int, default=20_000)
    parser.add_argument("--memory-limit-gb", type=float, default=10.0, help="given up beyond this")
    parser.add_argument(
        "--output", type=Path, help="write the figures as JSON (docs/benchmarks/kernels.json)"
    )
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that PyTorch can use here")
    options.backends = options.backends or usable_backends(options.device)
    if options.rivals is None:
        options.rivals = gpu_rivals.installed_rivals() if options.device == "cuda" else []
    return options


def usable_backends(device: str) -> list[str]:
    """Every backend but those made for the other kind of device, and those that say they cannot run."""
    usable = []
    for name in ("cpu", "compiled", "reference") if device == "cpu" else ("triton", "compiled", "reference"):
        try:
            choose(name, device)
        except KernelError as error:
            print(f"left out: {error}")
        else:
            usable.append(name)
    return usable


def convolutions(options: argparse.Namespace, sections: dict[str, object]) -> tuple[dict[str, object], bool]:
    """Rows of figures by case and program, and whether every program agreed."""
    dtype = getattr(torch, options.dtype)
    peaks = machine.measure(dtype, options.device)
    sections["peaks"] = {
        "gflop_per_s": peaks.operations_per_second / 1e9,
        "gb_per_s": peaks.bytes_per_second / 1e9,
        "dtype": options.dtype,
    }
    told = f"{sections['peaks']['gflop_per_s']:.0f} GFLOP/s, {sections['peaks']['gb_per_s']:.1f} GB/s"
    print(f"peaks of this machine now: {told}\n{report.LEGEND}")
    rows: dict[str, object] = {}
    agreed = True
    for case in options.cases:
        measured, good = measure_case(case, options, peaks)
        agreed = agreed and good
        rows |= {f"{case}, {options.dtype}: {name}": figures for name, figures in measured.items()}
    return rows, agreed


def measure_case(
    case: Case, options: argparse.Namespace, peaks: machine.Machine
) -> tuple[dict[str, dict[str, float]], bool]:
    """Check, time in turns, print; the figures of the programs that agreed."""
    size = Size(options.atoms, options.edges_per_atom)
    small = rival_size(case, size, options)
    prepare = partial(make_problem, case, dtype=getattr(torch, options.dtype), device=options.device)
    problem = prepare(size=size)
    rivals_problem = problem if small == size else prepare(size=small)
    print(f"\n{case}, {options.dtype}: {len(case.spec.paths)} paths, {size.atoms} atoms, {size.edges} edges")
    if small != size:
        print(f"    e3nn: {small.atoms} atoms for want of memory (and the check): compare times per edge")
    makers: dict[str, Make] = {name: partial(ours, backend=name) for name in options.backends}
    makers |= {name: getattr(gpu_rivals, name) for name in options.rivals}
    expected = e3nn(rivals_problem).results()
    errors = {name: relative_error(name, make(rivals_problem), expected) for name, make in makers.items()}
    tolerance = TOLERANCE[problem.x.dtype]
    good = [name for name, error in errors.items() if error < tolerance]
    for name in (name for name in errors if name not in good):
        print(f"    {name} DISAGREES beyond {tolerance}: not timed")
    del expected
    programs = {"e3nn": e3nn(rivals_problem)} | {name: makers[name](problem) for name in good}
    problems = dict.fromkeys(good, problem) | {"e3nn": rivals_problem}
    times = time_in_turns(programs, options.rounds, machine.Clock(options.device))
    rows: dict[str, dict[str, float]] = {}
    for name, seconds in times.items():
        given = problems[name]
        figures = report.row(seconds, count(given), peaks, given.num_edges, rows.get("e3nn"))
        rows[name] = {"relative_error": errors.get(name, 0.0), **figures}
    report.print_case(rows)
    return rows, len(good) == len(makers)


def rival_size(case: Case, size: Size, options: argparse.Namespace) -> Size:
    """As many atoms as e3nn can take in the memory it is given."""
    columns = case.spec.irreps_out.dim + case.spec.num_weights
    per_edge = RIVAL_COPIES * columns * getattr(torch, options.dtype).itemsize
    atoms = int(options.rival_gb * 1e9 / (per_edge * size.degree))
    return Size(max(2, min(size.atoms, atoms)), size.degree)


def relative_error(name: str, program: Program, expected: Results) -> float:
    """The largest difference from e3nn in values and gradients, relative to the largest value of each."""
    errors = {
        what: ((mine - theirs).abs().max() / theirs.abs().max()).item()
        for what, mine, theirs in zip(RESULTS, program.results(), expected, strict=True)
    }
    told = ", ".join(f"{what} {error:.1e}" for what, error in errors.items())
    print(f"    {name} against e3nn: {told}", flush=True)
    return float(np.max(list(errors.values())))  # NaN, where there is one


def time_in_turns(
    programs: dict[str, Program], rounds: int, clock: machine.Clock
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each program's calls; the first round warms up and is not counted."""
    times = {name: {"forward": [], "backward": []} for name in programs}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            forward, backward = take_turn(program, clock)
            if turn > 0:
                times[name]["forward"] += forward
                times[name]["backward"] += backward
    return times


def take_turn(program: Program, clock: machine.Clock) -> tuple[list[float], list[float]]:
    """Seconds of its forward calls, and of its backward calls on the graph of the last."""
    forward, out = repeat(program.forward, clock)
    backward, _ = repeat(lambda: program.backward(out), clock)
    return forward, backward


def repeat(run: Callable[[], Result], clock: machine.Clock) -> tuple[list[float], Result]:
    """Once, or as often as fits into a turn; the last result."""
    seconds, result = clock.timed(run)
    times = [seconds]
    while sum(times) + seconds < TURN:
        seconds, result = clock.timed(run)
        times.append(seconds)
    return times, result


if __name__ == "__main__":
    main()
