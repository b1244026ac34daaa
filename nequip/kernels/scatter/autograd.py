"""Shapes and derivatives of the sum and of its transpose as operators, the same for every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nequip.typing import Tensor


def register_sum(name: str, transpose: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    """Give `nequip::<name>(values, row_ptr) -> sums` its fake function and its derivatives.

    Args:
        transpose: `(grad, row_ptr, num_edges) -> values_grad`, itself differentiable.
    """

    def fake(values: Tensor, row_ptr: Tensor) -> Tensor:
        return values.new_empty(row_ptr.shape[0] - 1, values.shape[1])

    def keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        values, row_ptr = inputs
        ctx.save_for_backward(row_ptr)
        ctx.num_edges = values.shape[0]

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (row_ptr,) = ctx.saved_tensors
        return transpose(grad, row_ptr, ctx.num_edges), None

    torch.library.register_fake(f"nequip::{name}")(fake)
    torch.library.register_autograd(f"nequip::{name}", backward, setup_context=keep)


def register_transpose(name: str, total: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Give `nequip::<name>(grad, row_ptr, num_edges) -> values_grad` the same.

    Args:
        total: `(values, row_ptr) -> sums`, of which it is the transpose.
    """

    def fake(grad: Tensor, row_ptr: Tensor, num_edges: int) -> Tensor:
        return grad.new_empty(num_edges, grad.shape[1])

    def keep(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (row_ptr,) = ctx.saved_tensors
        return total(grad, row_ptr), None, None

    torch.library.register_fake(f"nequip::{name}")(fake)
    torch.library.register_autograd(f"nequip::{name}", backward, setup_context=keep)
