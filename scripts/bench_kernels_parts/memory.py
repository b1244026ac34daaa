"""Peak memory of one force evaluation in a process of its own: run by bench_kernels.py.

python -m bench_kernels_parts.memory '{"atoms": 20000, "backend": "cpu", "limit_gb": 12, ...}'
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch
from bench_kernels_parts.model import water

GB = 1e9


def main() -> None:
    request = json.loads(sys.argv[1])
    torch.set_num_threads(request["threads"])
    if request["device"] == "cpu":
        # a process that would take the whole machine is stopped by the first allocation beyond this
        limit = int(request["limit_gb"] * GB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    graph, model = water(request["atoms"], request["backend"], request["dtype"], request["device"])
    before = peak(request["device"])
    try:
        model(graph)
        held: float | str = peak(request["device"])
    except (RuntimeError, MemoryError) as error:
        print(error, file=sys.stderr)
        held = f"more than {request['limit_gb']}"
    sizes = {"atoms": graph.num_atoms, "edges": graph.num_edges}
    print(json.dumps({**sizes, "before_gb": before, "peak_gb": held}))


def peak(device: str) -> float:
    """The most memory held so far in GB: resident in this process, or by PyTorch on the GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / GB
    # not getrusage: what it tells includes the process that started this one
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024 / GB


if __name__ == "__main__":
    main()
