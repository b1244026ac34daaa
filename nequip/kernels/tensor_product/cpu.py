"""The convolution in generated C++: `torch.ops.nequip.conv`, one kernel library for each specification."""

from __future__ import annotations

from functools import cache

import torch

from nequip.kernels.edges import Edges
from nequip.kernels.native.generated import call, provide
from nequip.kernels.native.library import load_operators
from nequip.kernels.tensor_product import autograd
from nequip.kernels.tensor_product.autograd import parse
from nequip.kernels.tensor_product.cpu_source import Order, cpu_source
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.typing import Float, Tensor


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
    return call("convolve", torch.ops.nequip.conv, x, sh, weight, *edges, spec.text)


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
    provide("conv", spec, dtype, lambda scalar: cpu_source(parse(spec), scalar, order))
