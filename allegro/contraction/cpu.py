"""The contraction in generated C++: `torch.ops.nequip.contract`, a library for each specification."""

from __future__ import annotations

import re
from functools import cache

import torch

from allegro.contraction.autograd import parse, register
from allegro.contraction.cpu_source import cpu_source
from allegro.contraction.spec import ContractionSpec
from nequip.errors import KernelError
from nequip.kernels.edges import Edges
from nequip.kernels.native.build import build_library
from nequip.kernels.native.compiler import INSTRUCTION_SETS, find_compiler, instruction_set
from nequip.kernels.native.library import CSRC, load_kernel, load_operators
from nequip.kernels.tensor_product.cpu import SCALARS
from nequip.typing import Float, Tensor


def contract(
    tensors: Float[Tensor, "edge component_channel"],
    env: Float[Tensor, "row component_channel"],
    weight: Float[Tensor, "path channel"],
    edges: Edges,
    spec: ContractionSpec,
) -> Float[Tensor, "edge component_channel"]:
    """The product on the CPU, through the operator; see allegro.contraction.contract.

    Raises:
        KernelError: as `prepare`, and for rows of edges that the operator finds wrong.
    """
    prepare(spec.text, tensors.dtype)
    try:
        return torch.ops.nequip.contract(tensors, env, weight, edges.row_ptr, spec.text)
    except RuntimeError as error:
        problem = re.search(r"\bcontract: (.*)", str(error))
        if problem is None:
            raise
        raise KernelError(f"contract: {problem[1]}.") from error


@torch.compiler.assume_constant_result
def prepare(spec: str, dtype: torch.dtype) -> None:
    """Build and load what the contraction and its derivatives need.

    Raises:
        KernelError: without a C++ compiler, or for a dtype other than float32 and float64.
    """
    _operators()
    _load(spec, dtype)


@cache
def _operators() -> None:
    load_operators()
    register("contract")


@cache
def _load(spec: str, dtype: torch.dtype) -> None:
    if dtype not in SCALARS:
        raise KernelError(f"backend cpu computes in float32 and float64, not in {dtype}: convert the model.")
    scalar, size = SCALARS[dtype]
    source = cpu_source(parse(spec), scalar)
    path = build_library(source, INSTRUCTION_SETS[instruction_set()], find_compiler(), CSRC)
    load_kernel(spec, size, path, kind="contraction")
