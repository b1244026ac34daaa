"""The convolution in generated C++: `torch.ops.nequip.conv`, one kernel library for each specification."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from nequip.errors import KernelError
from nequip.kernels.edges import Edges
from nequip.kernels.native.build import build_library
from nequip.kernels.native.compiler import INSTRUCTION_SETS, find_compiler, instruction_set
from nequip.kernels.native.library import CSRC, load_kernel, load_operators
from nequip.kernels.tensor_product import autograd
from nequip.kernels.tensor_product.autograd import parse
from nequip.kernels.tensor_product.cpu_source import Order, cpu_source
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.typing import Float, Tensor

SCALARS = {torch.float32: ("float", 4), torch.float64: ("double", 8)}


def convolve(
    x: Float[Tensor, "source component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    spec: TensorProductSpec,
) -> Float[Tensor, "row component_out"]:
    """The sum on the CPU, through the operator; see nequip.kernels.tensor_product.convolve.

    Raises:
        KernelError: as `prepare`, and for edges that the operator finds wrong.
    """
    prepare(spec.text, x.dtype)
    return call(torch.ops.nequip.conv, x, sh, weight, *edges, spec.text)


def call(operator: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The operator's result, its complaints as ours.

    Raises:
        KernelError: for what it finds wrong with its arguments.
    """
    try:
        return operator(*arguments)
    except RuntimeError as error:
        problem = re.search(r"\bconv(_table)?: (.*)", str(error))
        if problem is None:
            raise
        raise KernelError(f"convolve: {problem[2]}.") from error


@torch.compiler.assume_constant_result
def prepare(spec: str, dtype: torch.dtype) -> None:
    """Build and load what the sum and its gradient need.

    Raises:
        KernelError: without a C++ compiler, or for a dtype other than float32 and float64.
    """
    _operators()
    _load(spec, dtype, "first")


@cache
def _operators() -> None:
    load_operators()
    autograd.register("conv", prepare_second=lambda spec, dtype: _load(spec, dtype, "second"))


@cache
def _load(spec: str, dtype: torch.dtype, order: Order) -> None:
    if dtype not in SCALARS:
        raise KernelError(f"backend cpu computes in float32 and float64, not in {dtype}: convert the model.")
    scalar, size = SCALARS[dtype]
    source = cpu_source(parse(spec), scalar, order)
    path = build_library(source, INSTRUCTION_SETS[instruction_set()], find_compiler(), CSRC)
    load_kernel(spec, size, path)
