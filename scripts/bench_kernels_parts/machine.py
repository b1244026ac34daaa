"""What the machine can do: its clock, its largest rate of arithmetic, its memory bandwidth."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

TRIALS = 5
Result = TypeVar("Result")


class Clock:
    """Seconds that something takes on one device; work queued on a GPU is waited for."""

    def __init__(self, device: str):
        self.cuda = device == "cuda"

    def timed(self, run: Callable[[], Result]) -> tuple[float, Result]:
        """Seconds of `run`, and what it returned."""
        if not self.cuda:
            start = time.perf_counter()
            result = run()
            return time.perf_counter() - start, result
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        result = run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000, result

    def best(self, run: Callable[[], object], trials: int) -> float:
        """The fewest seconds: other programs can only make them more."""
        return min(self.timed(run)[0] for _ in range(trials))


@dataclass(frozen=True)
class Machine:
    """Rates measured here, in this run."""

    operations_per_second: float  # of a large matrix product
    bytes_per_second: float  # of a triad on arrays larger than the caches


def measure(dtype: torch.dtype, device: str) -> Machine:
    """The best of a few trials."""
    clock = Clock(device)
    size = 8192 if device == "cuda" else 3072
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    product = torch.empty_like(left)
    multiply = clock.best(lambda: torch.mm(left, right, out=product), TRIALS)
    # 3 x 512 MiB: more than the caches of any machine that this is likely to run on
    first = torch.ones(2**29 // dtype.itemsize, dtype=dtype, device=device)
    second, third = torch.ones_like(first), torch.ones_like(first)
    triad = clock.best(lambda: torch.add(first, second, alpha=2.0, out=third), TRIALS)
    return Machine(2 * size**3 / multiply, 3 * first.nbytes / triad)


def describe(device: str, threads: int) -> dict[str, object]:
    """What else ran, and on what."""
    return {
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": threads,
        "torch": torch.__version__,
        "load_at_start": os.getloadavg()[0],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
