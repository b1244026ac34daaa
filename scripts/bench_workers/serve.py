"""What both programs behind bench.py answer: a line of JSON to each word on standard input."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch


def serve(forces: Callable[[], torch.Tensor], train_step: Callable[[], None]) -> None:
    """Answer until standard input ends: "ready", "forces", or the name of a case to be timed once."""
    cases = {"forces_water_192": forces, "train_step_ethanol_5": train_step}
    for line in sys.stdin:
        request = line.strip()
        answer: dict[str, object] = {}
        if request == "forces":
            answer["forces"] = forces().tolist()
        elif request != "ready":
            start = time.perf_counter()
            cases[request]()
            answer["seconds"] = time.perf_counter() - start
        print(json.dumps(answer), flush=True)
