"""Shapes and derivatives of the symmetric contraction as operators: three of them, closed to every order.

With z = (g, A, W) and `Φ(z) = Σ g · B(A, W)` they are the value `∂Φ/∂g`, the gradient of Φ by A and W, and
for any number k of directions `G_k = ∇ D^kΦ(z)[v_1, .., v_k]`, the gradient by all three of a derivative.
Since the derivative is linear in each direction and does not depend on their order,

- `u · G_k` is `D^(k+1)Φ(z)[v_1, .., v_k, u]`, and its gradient by z is G_(k+1) along one direction more;
- its gradient by v_i is G_k with u in the place of v_i.

Directions come as arrays [direction, row, column]. Most do not touch the weights: `along_weight` then has
no rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from mace_ext.contraction.points import Point, stack, unstack
from mace_ext.contraction.spec import SymmetricSpec
from nequip.kernels.operators import check_devices, is_wanted
from nequip.typing import Tensor

parse = cache(SymmetricSpec.parse)

# Specification, dtype, number of directions, and whether weights change along them.
Prepare = Callable[[str, torch.dtype, int, bool], None]

_ARGUMENTS = "Tensor x, Tensor weight, Tensor types, str spec"
_DIRECTIONS = "Tensor along_grad, Tensor along_x, Tensor along_weight"
SCHEMAS = {
    "": f"({_ARGUMENTS}) -> Tensor",
    "_backward": f"(Tensor grad, {_ARGUMENTS}, bool with_weight) -> (Tensor, Tensor)",
    "_derivative": (
        f"({_DIRECTIONS}, Tensor grad, {_ARGUMENTS}, bool with_weight) -> (Tensor, Tensor, Tensor)"
    ),
}

_NAMES = ("grad", "x", "weight", "types")
_ALONG = ("along_grad", "along_x", "along_weight")


def prepare_nothing(spec: str, dtype: torch.dtype, order: int, moving: bool) -> None:
    """For a backend whose derivatives need no preparation."""


def register_shapes(name: str, prepare: Prepare = prepare_nothing) -> None:
    """Give `nequip::<name>`, `..._backward` and `..._derivative` fake functions.

    Args:
        prepare: called before a derivative is first needed: graphs that are traced may be kept, and run
            without anything of ours between.
    """

    def fake_value(*arguments: Any) -> Tensor:
        check_devices("contract_symmetric", _NAMES[1:], arguments)
        x, _, _, spec = arguments
        return x.new_empty(x.shape[0], parse(spec).irreps_out.dim)

    def fake_backward(*arguments: Any) -> tuple[Tensor, Tensor]:
        check_devices("contract_symmetric", _NAMES, arguments)
        _, x, weight, _, spec, with_weight = arguments
        prepare(spec, x.dtype, 1, False)
        return x.new_empty(x.shape), _empty_weight(weight, with_weight)

    def fake_derivative(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        check_devices("contract_symmetric", (*_ALONG, *_NAMES), arguments)
        _, along_x, along_weight, grad, x, weight, _, spec, with_weight = arguments
        prepare(spec, x.dtype, int(along_x.shape[0]), bool(along_weight.shape[1] > 0))
        return grad.new_empty(grad.shape), x.new_empty(x.shape), _empty_weight(weight, with_weight)

    fakes = {"": fake_value, "_backward": fake_backward, "_derivative": fake_derivative}
    for suffix, fake in fakes.items():
        torch.library.register_fake(f"nequip::{name}{suffix}")(fake)


def register_derivatives(name: str, prepare: Prepare = prepare_nothing) -> None:
    """Give the operators derivatives; `prepare` as for `register_shapes`."""
    call_backward = getattr(torch.ops.nequip, f"{name}_backward")
    call_derivative = getattr(torch.ops.nequip, f"{name}_derivative")

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)  # directions that do not touch the weights are to be seen
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
        (ctx.spec,) = (value for value in inputs if isinstance(value, str))

    def backward_value(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        with_weight = is_wanted(ctx, 1)
        dx, dweight = call_backward(grad, *ctx.saved_tensors, ctx.spec, with_weight)
        return dx, dweight if with_weight else None, None, None

    def backward_backward(ctx: Any, a: Tensor | None, b: Tensor | None) -> tuple[Any, ...]:
        with_weight = is_wanted(ctx, 2)
        dgrad, dx, dweight = derivative(ctx, [Point(None, a, b)], with_weight)
        return dgrad, dx, dweight, None, None, None

    def backward_derivative(
        ctx: Any, g: Tensor | None, a: Tensor | None, b: Tensor | None
    ) -> tuple[Any, ...]:
        along_grad, along_x, along_weight, *_ = ctx.saved_tensors
        along = unstack(along_grad, along_x, along_weight)
        u = Point(g, a, b)
        dgrad, dx, dweight = derivative(ctx, [*along, u], is_wanted(ctx, 5))
        touched = along_weight.shape[1] > 0
        each = [derivative(ctx, [*along[:i], u, *along[i + 1 :]], touched) for i in range(len(along))]
        by_grad, by_x, by_weight = zip(*each, strict=True)
        by_along = torch.stack(by_grad), torch.stack(by_x), torch.stack(by_weight) if touched else None
        return *by_along, dgrad, dx, dweight, None, None, None

    def derivative(
        ctx: Any, directions: list[Point], with_weight: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """G_k along the directions, at the point that `ctx` kept."""
        grad, x, weight, types = ctx.saved_tensors[-4:]
        along = stack(directions, (grad, x, weight))
        prepare(ctx.spec, x.dtype, len(directions), along[2].shape[1] > 0)
        dgrad, dx, dweight = call_derivative(*along, grad, x, weight, types, ctx.spec, with_weight)
        return dgrad, dx, dweight if with_weight else None

    derivatives = {"": backward_value, "_backward": backward_backward, "_derivative": backward_derivative}
    for suffix, function in derivatives.items():
        torch.library.register_autograd(f"nequip::{name}{suffix}", function, setup_context=keep)


def _empty_weight(weight: Tensor, wanted: bool) -> Tensor:
    return weight.new_empty(weight.shape[0] if wanted else 0, weight.shape[1])
