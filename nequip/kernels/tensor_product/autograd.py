"""Shapes and derivatives of the convolution as operators, the same for every backend.

With z = (g, x, y, w) and Φ linear in each, a backend has three operators: the value `∂Φ/∂g`, the
gradient by x, y, w, and the product of the Hessian H(z) with a direction. These three are closed:

- the gradient of the gradient, along (a, b, c), is `H(z) (0, a, b, c)`, and H is symmetric;
- since Φ is linear in each argument, the gradient by z of `u · H(z) v` is the sum over the arguments i
  of `H(z with u_i for z_i) v`, leaving out output i and direction i.

So forces, training on forces, Hessians and training on Hessians all run on the backend.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from nequip.errors import KernelError
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.typing import Tensor

Prepare = Callable[[str, torch.dtype], None]
parse = cache(TensorProductSpec.parse)


def register(name: str, prepare_second: Prepare) -> None:
    """Give `nequip::<name>`, `..._backward` and `..._double_backward` fake functions and derivatives.

    Args:
        prepare_second: called with the specification and dtype before the Hessian is first needed. It
            also is when a gradient is traced: graphs that torch.compile finds in its cache come with
            their derivatives, and nothing of ours runs between.
    """

    def fake_value(*arguments: Any) -> Tensor:
        check_devices(_NAMES[1:], arguments)
        x, row_ptr, spec = arguments[0], arguments[5], arguments[7]
        return x.new_empty(row_ptr.shape[0] - 1, parse(spec).irreps_out.dim)

    def fake_gradient(*arguments: Any) -> tuple[Tensor, ...]:
        check_devices(_NAMES, arguments)
        prepare_second(arguments[-1], arguments[0].dtype)
        return tuple(_like(value) for value in arguments[1:4])

    def fake_hessian(*arguments: Any) -> tuple[Tensor, ...]:
        check_devices(("along_x", "along_sh", "along_weight", *_NAMES), arguments)
        return tuple(_like(value) for value in arguments[3:7])

    for function, suffix in zip((fake_value, fake_gradient, fake_hessian), _SUFFIXES, strict=True):
        torch.library.register_fake(f"nequip::{name}{suffix}")(function)
    register_derivatives(name, prepare_second)


def register_derivatives(name: str, prepare_second: Prepare) -> None:
    """As `register`, for operators that have fake functions."""
    ops = torch.ops.nequip
    call_gradient = getattr(ops, f"{name}_backward")
    call_hessian = getattr(ops, f"{name}_double_backward")

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:-1])
        ctx.spec = inputs[-1]

    def backward_value(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return *call_gradient(grad, *ctx.saved_tensors, ctx.spec), *_NO_INDICES

    def backward_gradient(ctx: Any, a: Tensor, b: Tensor, c: Tensor) -> tuple[Any, ...]:
        prepare_second(ctx.spec, a.dtype)
        return *call_hessian(a, b, c, *ctx.saved_tensors, ctx.spec), *_NO_INDICES

    def backward_hessian(ctx: Any, *u: Tensor) -> tuple[Any, ...]:
        a, b, c, *z = ctx.saved_tensors[:7]
        indices = (*ctx.saved_tensors[7:], ctx.spec)
        direction = _add(call_hessian(*u[1:], *z, *indices)[1:], call_gradient(u[0], *z[1:], *indices))
        point: list[Tensor] = [torch.zeros_like(value) for value in z]
        for i in range(4):
            replaced = [u[n] if n == i else value for n, value in enumerate(z)]
            along = [torch.zeros_like(v) if n == i - 1 else v for n, v in enumerate((a, b, c))]
            terms = call_hessian(*along, *replaced, *indices)
            point = [p if n == i else p + term for n, (p, term) in enumerate(zip(point, terms, strict=True))]
        return *direction, *point, *_NO_INDICES

    for function, suffix in zip(
        (backward_value, backward_gradient, backward_hessian), _SUFFIXES, strict=True
    ):
        torch.library.register_autograd(f"nequip::{name}{suffix}", function, setup_context=keep)


def check_devices(names: tuple[str, ...], arguments: tuple[Any, ...]) -> None:
    """One argument on the meta device among others sends a call to its fake function: it must not return.

    Raises:
        KernelError: naming the first argument that is elsewhere.
    """
    device = arguments[0].device
    for name, value in zip(names, arguments, strict=False):
        if value.device != device:
            raise KernelError(f"conv: {name} is on {value.device}, but {names[0]} is on {device}: move one.")


_NAMES = ("grad", "x", "sh", "weight", "center", "neighbor", "row_ptr", "transpose")
_SUFFIXES = ("", "_backward", "_double_backward")
_NO_INDICES = (None,) * 5  # center, neighbor, row_ptr, transpose, spec


def _like(value: Tensor) -> Tensor:
    return value.new_empty(value.shape)


def _add(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> list[Tensor]:
    return [a + b for a, b in zip(left, right, strict=True)]
