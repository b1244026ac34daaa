"""The Triton kernels as operators `nequip::contract_symmetric_triton...`: compilers of graphs see them."""

from __future__ import annotations

from functools import cache
from typing import get_type_hints

import torch

from mace_ext.contraction.autograd import parse, register_derivatives
from mace_ext.contraction.points import Point
from mace_ext.contraction.spec import SymmetricSpec
from mace_ext.contraction.triton import Call
from nequip.typing import Float, Int, Tensor


def contract_symmetric(
    x: Float[Tensor, "atom component_channel"],
    weight: Float[Tensor, "type path_channel"],
    types: Int[Tensor, " atom"],
    spec: SymmetricSpec,
) -> Float[Tensor, "atom component_out_channel"]:
    """On a GPU; see mace_ext.contraction.contract_symmetric.

    Raises:
        KernelError: for a dtype other than float32 and float64.
    """
    prepare()
    return torch.ops.nequip.contract_symmetric_triton(x, weight.view_as(weight), types, spec.text)


@torch.compiler.assume_constant_result
def prepare() -> None:
    """Register the operators, once."""
    _register()


@cache
def _register() -> None:
    def value(x: Tensor, weight: Tensor, types: Tensor, spec: str) -> Tensor:
        return Call(Point(None, x, weight), types, parse(spec)).by_grad()

    def backward(
        grad: Tensor, x: Tensor, weight: Tensor, types: Tensor, spec: str, with_weight: bool
    ) -> tuple[Tensor, Tensor]:
        call = Call(Point(grad, x, weight), types, parse(spec))
        return call.by_x(), call.by_weight() if with_weight else weight.new_empty(0, weight.shape[1])

    def derivative(
        along_grad: Tensor,
        along_x: Tensor,
        along_weight: Tensor,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        types: Tensor,
        spec: str,
        with_weight: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        call = Call(Point(grad, x, weight), types, parse(spec), (along_grad, along_x, along_weight))
        by_weight = call.by_weight() if with_weight else weight.new_empty(0, weight.shape[1])
        return call.by_grad(), call.by_x(), by_weight

    for suffix, function in {"": value, "_backward": backward, "_derivative": derivative}.items():
        # torch reads schemas from annotations, which are text in this file
        function.__annotations__ = get_type_hints(function)
        name = f"nequip::contract_symmetric_triton{suffix}"
        torch.library.triton_op(name, function, mutates_args=())
    register_derivatives("contract_symmetric_triton")
