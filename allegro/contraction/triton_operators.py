"""The Triton kernels as operators `nequip::contract_triton...`, which compilers of graphs see through."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from allegro.contraction import triton
from allegro.contraction.autograd import SIGNATURE, parse
from allegro.contraction.spec import ContractionSpec
from nequip.kernels.edges import Edges
from nequip.kernels.operators import Functions, define_by_triton
from nequip.kernels.trilinear import register_derivatives
from nequip.typing import Float, Tensor


def contract(
    tensors: Float[Tensor, "edge component_channel"],
    env: Float[Tensor, "row component_channel"],
    weight: Float[Tensor, "path channel"],
    edges: Edges,
    spec: ContractionSpec,
) -> Float[Tensor, "edge component_channel"]:
    """The product on a GPU; see allegro.contraction.contract.

    Raises:
        KernelError: for a dtype other than float32 and float64.
    """
    prepare()
    return torch.ops.nequip.contract_triton(tensors, env, weight, edges.row_ptr, spec.text)


@torch.compiler.assume_constant_result
def prepare() -> None:
    """Register the operators, once."""
    _register()


@cache
def _register() -> None:
    define_by_triton("contract_triton", SIGNATURE, Functions(_value, _gradient, _hessian))
    register_derivatives("contract_triton")


def _value(tensors: Tensor, env: Tensor, weight: Tensor, row_ptr: Tensor, spec: str) -> Tensor:
    return triton.contract(tensors, env, weight, row_ptr, parse(spec))


def _gradient(grad: Tensor, tensors: Tensor, env: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    row_ptr, spec = rest
    return triton.contract_backward(grad, tensors, env, weight, row_ptr, parse(spec))


def _hessian(
    a: Tensor, b: Tensor, c: Tensor, grad: Tensor, tensors: Tensor, env: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    row_ptr, spec = rest
    return triton.contract_double_backward(a, b, c, grad, tensors, env, weight, row_ptr, parse(spec))
