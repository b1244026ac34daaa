"""The Triton kernels as operators `nequip::conv_triton...`, which compilers of graphs see through."""

from __future__ import annotations

from functools import cache

import torch

from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import triton
from nequip.kernels.tensor_product.autograd import parse
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
    def value(
        x: Tensor,
        sh: Tensor,
        weight: Tensor,
        center: Tensor,
        neighbor: Tensor,
        row_ptr: Tensor,
        transpose: Tensor,
        spec: str,
    ) -> Tensor:
        return triton.conv(x, sh, weight, Edges(center, neighbor, row_ptr, transpose), parse(spec))

    def gradient(
        grad: Tensor,
        x: Tensor,
        sh: Tensor,
        weight: Tensor,
        center: Tensor,
        neighbor: Tensor,
        row_ptr: Tensor,
        transpose: Tensor,
        spec: str,
    ) -> tuple[Tensor, Tensor, Tensor]:
        edges = Edges(center, neighbor, row_ptr, transpose)
        return triton.conv_backward(grad, x, sh, weight, edges, parse(spec))

    def hessian(
        a: Tensor,
        b: Tensor,
        c: Tensor,
        grad: Tensor,
        x: Tensor,
        sh: Tensor,
        weight: Tensor,
        center: Tensor,
        neighbor: Tensor,
        row_ptr: Tensor,
        transpose: Tensor,
        spec: str,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        edges = Edges(center, neighbor, row_ptr, transpose)
        return triton.conv_double_backward(a, b, c, grad, x, sh, weight, edges, parse(spec))

    # torch reads schemas from annotations, which are text in this file
    for function, tensors, results in ((value, 7, 1), (gradient, 8, 3), (hessian, 11, 4)):
        names = list(function.__annotations__)[:tensors]
        returned = Tensor if results == 1 else tuple[(Tensor,) * results]
        function.__annotations__ = {**dict.fromkeys(names, Tensor), "spec": str, "return": returned}
    torch.library.triton_op("nequip::conv_triton", value, mutates_args=())
    torch.library.triton_op("nequip::conv_triton_backward", gradient, mutates_args=())
    torch.library.triton_op("nequip::conv_triton_double_backward", hessian, mutates_args=())
    register_derivatives("conv_triton")
