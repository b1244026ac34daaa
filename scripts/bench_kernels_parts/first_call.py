"""Seconds until the first result of a fresh process: run by bench_kernels.py, once for each number.

python -m bench_kernels_parts.first_call '{"what": "convolution", "backend": "cpu", ...}'
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import torch
from bench_kernels_parts.machine import Clock
from bench_kernels_parts.model import water
from bench_kernels_parts.problem import Case, Size, make_problem

from nequip.kernels.tensor_product import convolve


def main() -> None:
    request = json.loads(sys.argv[1])
    torch.set_num_threads(request["threads"])
    run = {"convolution": convolution, "forces": forces}[request["what"]](request)
    seconds, _ = Clock(request["device"]).timed(run)
    print(json.dumps({"seconds": seconds}))


def convolution(request: dict) -> Callable[[], object]:
    """One convolution of l_max 2 with 32 channels, and its gradients."""
    dtype = getattr(torch, request["dtype"])
    problem = make_problem(Case(2, 32), Size(20, 10), dtype, request["device"])
    inputs = [value.requires_grad_() for value in (problem.x, problem.sh, problem.weight)]

    def run() -> object:
        out = convolve(*inputs, problem.edges, spec=problem.spec, backend=request["backend"])
        return torch.autograd.grad(out, inputs, problem.grad)

    return run


def forces(request: dict) -> Callable[[], object]:
    """Energy, forces and stress of 192 atoms of water by the 4-layer NequIP."""
    graph, model = water(192, request["backend"], request["dtype"], request["device"])
    return lambda: model(graph)


if __name__ == "__main__":
    main()
