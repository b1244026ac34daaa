"""Derivatives of a form `Φ(g, x, y, w)`, linear in each argument, as operators: the same for every backend.

With z = (g, x, y, w) a backend has three operators: the value `∂Φ/∂g`, the gradient by x, y, w, and the
product of the Hessian H(z) with a direction. These three are closed:

- the gradient of the gradient, along (a, b, c), is `H(z) (0, a, b, c)`, and H is symmetric;
- since Φ is linear in each argument, the gradient by z of `u · H(z) v` is the sum over the arguments i
  of `H(z with u_i for z_i) v`, leaving out output i and direction i.

So forces, training on forces, Hessians and training on Hessians all run on the backend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nequip.kernels.operators import Prepare, prepare_nothing
from nequip.typing import Tensor


def register_derivatives(name: str, prepare_second: Prepare = prepare_nothing) -> None:
    """Derivatives of `nequip::<name>`, `..._backward` and `..._double_backward`.

    Their arguments are (x, y, w), (g, x, y, w) and (a, b, c, g, x, y, w), then tensors of indices, then
    the text of a specification.

    Args:
        prepare_second: called with the specification and dtype before the Hessian is first needed.
    """
    ops = torch.ops.nequip
    call_gradient = getattr(ops, f"{name}_backward")
    call_hessian = getattr(ops, f"{name}_double_backward")

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:-1])
        ctx.num_inputs, ctx.spec = len(inputs), inputs[-1]

    def backward_value(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return _of_all(ctx, *call_gradient(grad, *ctx.saved_tensors, ctx.spec))

    def backward_gradient(ctx: Any, a: Tensor, b: Tensor, c: Tensor) -> tuple[Any, ...]:
        prepare_second(ctx.spec, a.dtype)
        return _of_all(ctx, *call_hessian(a, b, c, *ctx.saved_tensors, ctx.spec))

    def backward_hessian(ctx: Any, *u: Tensor) -> tuple[Any, ...]:
        a, b, c, *saved = ctx.saved_tensors
        z, indices = saved[:4], (*saved[4:], ctx.spec)
        direction = _add(call_hessian(*u[1:], *z, *indices)[1:], call_gradient(u[0], *z[1:], *indices))
        point: list[Tensor] = [torch.zeros_like(value) for value in z]
        for i in range(4):
            replaced = [u[n] if n == i else value for n, value in enumerate(z)]
            along = [torch.zeros_like(v) if n == i - 1 else v for n, v in enumerate((a, b, c))]
            terms = call_hessian(*along, *replaced, *indices)
            point = [p if n == i else p + term for n, (p, term) in enumerate(zip(point, terms, strict=True))]
        return _of_all(ctx, *direction, *point)

    derivatives = {"": backward_value, "_backward": backward_gradient, "_double_backward": backward_hessian}
    for suffix, function in derivatives.items():
        torch.library.register_autograd(f"nequip::{name}{suffix}", function, setup_context=keep)


def hessian_of(
    value: Callable[..., Tensor], gradient: Callable[..., tuple[Tensor, ...]]
) -> Callable[..., tuple[Tensor, ...]]:
    """The third operator by three calls of each of the others, for a backend that has no more.

    It is the gradient, in all four arguments, of `Φ(g, a, y, w) + Φ(g, x, b, w) + Φ(g, x, y, c)`.
    """

    def hessian(a: Tensor, b: Tensor, c: Tensor, grad: Tensor, x: Tensor, y: Tensor, w: Tensor, *rest: Any):
        points = (a, y, w), (x, b, w), (x, y, c)
        (_, dy, dw), (dx, _, dw_too), (dx_too, dy_too, _) = (
            gradient(grad, *point, *rest) for point in points
        )
        first, second, third = (value(*point, *rest) for point in points)
        return first + second + third, dx + dx_too, dy + dy_too, dw + dw_too

    return hessian


def _of_all(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
    """With None for each index and the specification, which come after what is differentiated."""
    return *gradients, *(None,) * (ctx.num_inputs - len(gradients))


def _add(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> list[Tensor]:
    return [a + b for a, b in zip(left, right, strict=True)]
