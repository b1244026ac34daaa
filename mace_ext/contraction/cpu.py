"""The symmetric contraction in generated C++: one kernel library for each specification and derivative."""

from __future__ import annotations

from functools import cache

import torch

from mace_ext.contraction.autograd import parse, register_derivatives, register_shapes
from mace_ext.contraction.cpu_source import cpu_source
from mace_ext.contraction.spec import SymmetricSpec
from nequip.errors import KernelError
from nequip.kernels.native.generated import call, provide
from nequip.kernels.native.library import load_operators
from nequip.typing import Float, Int, Tensor

# Derivatives that the operators find kernels for: SYMMETRIC_ORDERS of symmetric_operators.h.
ORDERS = 4


def contract_symmetric(
    x: Float[Tensor, "atom component_channel"],
    weight: Float[Tensor, "type path_channel"],
    types: Int[Tensor, " atom"],
    spec: SymmetricSpec,
) -> Float[Tensor, "atom component_out_channel"]:
    """On the CPU, through the operator; see mace_ext.contraction.contract_symmetric.

    Raises:
        KernelError: as `prepare`, and for types that there are no weights for.
    """
    prepare(spec.text, x.dtype)
    alias = weight.view_as(weight)  # no leaf: of these a backward pass cannot tell whether they are wanted
    operator = torch.ops.nequip.contract_symmetric
    return call("contract_symmetric", operator, x, alias, types, spec.text)


@torch.compiler.assume_constant_result
def prepare(spec: str, dtype: torch.dtype) -> None:
    """Build and load what the value and its gradient need.

    Raises:
        KernelError: without a C++ compiler, or for a dtype other than float32 and float64.
    """
    _operators()
    prepare_order(spec, dtype, 0, False)


@cache
def _operators() -> None:
    load_operators()
    register_shapes("contract_symmetric", prepare_order)
    register_derivatives("contract_symmetric", prepare_order)


@cache
def prepare_order(spec: str, dtype: torch.dtype, order: int, moving: bool) -> None:
    """The same for a derivative along `order` directions, which change weights or not."""
    if order >= ORDERS:
        raise KernelError(
            f"backend cpu differentiates an energy {ORDERS + 1} times, not more: choose backend reference."
        )
    provide("symmetric", spec, dtype, lambda scalar: cpu_source(parse(spec), scalar, order, moving))
