"""What every program behind bench.py answers: a line of JSON to each word on standard input."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch


def wait() -> None:
    """Until a GPU has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def serve(cases: dict[str, Callable[[], torch.Tensor | None]]) -> None:
    """Answer until standard input ends: "ready", "forces" (of the first case), or a case to be timed once."""
    for line in sys.stdin:
        request = line.strip()
        answer: dict[str, object] = {}
        if request == "forces":
            answer["forces"] = next(iter(cases.values()))().tolist()
        elif request != "ready":
            cases[request]()  # wakes threads and caches, which other programs had since
            wait()
            start = time.perf_counter()
            cases[request]()
            wait()
            answer["seconds"] = time.perf_counter() - start
        print(json.dumps(answer), flush=True)
