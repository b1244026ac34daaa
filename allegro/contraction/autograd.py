"""Shapes and derivatives of the contraction as operators: three of them, closed to every order."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from allegro.contraction.spec import ContractionSpec
from nequip.kernels.trilinear import check_devices, register_derivatives
from nequip.typing import Tensor

parse = cache(ContractionSpec.parse)

_NAMES = ("grad", "tensors", "env", "weight", "row_ptr")


def register(name: str) -> None:
    """Give `nequip::<name>`, `..._backward` and `..._double_backward` fake functions and derivatives."""

    def fake_value(*arguments: Any) -> Tensor:
        check_devices("contract", _NAMES[1:], arguments)
        tensors, spec = arguments[0], arguments[-1]
        return tensors.new_empty(tensors.shape[0], parse(spec).irreps_out.dim)

    def fake_gradient(*arguments: Any) -> tuple[Tensor, ...]:
        check_devices("contract", _NAMES, arguments)
        return tuple(value.new_empty(value.shape) for value in arguments[1:4])

    def fake_hessian(*arguments: Any) -> tuple[Tensor, ...]:
        check_devices("contract", ("along_tensors", "along_env", "along_weight", *_NAMES), arguments)
        return tuple(value.new_empty(value.shape) for value in arguments[3:7])

    torch.library.register_fake(f"nequip::{name}")(fake_value)
    torch.library.register_fake(f"nequip::{name}_backward")(fake_gradient)
    torch.library.register_fake(f"nequip::{name}_double_backward")(fake_hessian)
    register_derivatives(name)
