"""Shapes of the convolution's operators, the same for every backend; derivatives are in trilinear.py."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.kernels.trilinear import Prepare, check_devices, register_derivatives
from nequip.typing import Tensor

parse = cache(TensorProductSpec.parse)


def register(name: str, prepare_second: Prepare) -> None:
    """Give `nequip::<name>`, `..._backward` and `..._double_backward` fake functions and derivatives.

    Args:
        prepare_second: called with the specification and dtype before the Hessian is first needed. It
            also is when a gradient is traced: graphs that torch.compile finds in its cache come with
            their derivatives, and nothing of ours runs between.
    """

    def fake_value(*arguments: Any) -> Tensor:
        check_devices("conv", _NAMES[1:], arguments)
        x, row_ptr, spec = arguments[0], arguments[5], arguments[7]
        return x.new_empty(row_ptr.shape[0] - 1, parse(spec).irreps_out.dim)

    def fake_gradient(*arguments: Any) -> tuple[Tensor, ...]:
        check_devices("conv", _NAMES, arguments)
        prepare_second(arguments[-1], arguments[0].dtype)
        return tuple(_like(value) for value in arguments[1:4])

    def fake_hessian(*arguments: Any) -> tuple[Tensor, ...]:
        check_devices("conv", ("along_x", "along_sh", "along_weight", *_NAMES), arguments)
        return tuple(_like(value) for value in arguments[3:7])

    torch.library.register_fake(f"nequip::{name}")(fake_value)
    torch.library.register_fake(f"nequip::{name}_backward")(fake_gradient)
    torch.library.register_fake(f"nequip::{name}_double_backward")(fake_hessian)
    register_derivatives(name, prepare_second)


_NAMES = ("grad", "x", "sh", "weight", "center", "neighbor", "row_ptr", "transpose")


def _like(value: Tensor) -> Tensor:
    return value.new_empty(value.shape)
