"""The Triton kernels as operators `nequip::conv_triton...`, which compilers of graphs see through."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from nequip.kernels.edges import Edges
from nequip.kernels.operators import Functions, define_by_triton
from nequip.kernels.tensor_product import triton
from nequip.kernels.tensor_product.autograd import SIGNATURE, parse
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.kernels.trilinear import register_derivatives
from nequip.typing import Float, Tensor


def convolve(
    x: Float[Tensor, "source component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    spec: TensorProductSpec,
) -> Float[Tensor, "row component_out"]:
    """The sum on a GPU; see nequip.kernels.tensor_product.convolve.

    Raises:
        KernelError: for a dtype other than float32 and float64.
    """
    prepare()
    return torch.ops.nequip.conv_triton(x, sh, weight, *edges, spec.text)


@torch.compiler.assume_constant_result
def prepare() -> None:
    """Register the operators, once."""
    _register()


@cache
def _register() -> None:
    define_by_triton("conv_triton", SIGNATURE, Functions(_value, _gradient, _hessian))
    register_derivatives("conv_triton")


def _value(x: Tensor, sh: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return triton.conv(x, sh, weight, Edges(*rest[:4]), parse(rest[4]))


def _gradient(
    grad: Tensor, x: Tensor, sh: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return triton.conv_backward(grad, x, sh, weight, Edges(*rest[:4]), parse(rest[4]))


def _hessian(
    a: Tensor, b: Tensor, c: Tensor, grad: Tensor, x: Tensor, sh: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return triton.conv_double_backward(a, b, c, grad, x, sh, weight, Edges(*rest[:4]), parse(rest[4]))
