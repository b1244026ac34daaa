"""Arguments and shapes of the convolution's operators, the same for every backend, and their derivatives."""

from __future__ import annotations

from functools import cache
from typing import Any

from nequip.kernels.operators import Prepare, Signature, prepare_nothing, register_shapes
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.kernels.trilinear import register_derivatives
from nequip.typing import Tensor

parse = cache(TensorProductSpec.parse)

SIGNATURE = Signature("conv", ("x", "sh", "weight"), ("center", "neighbor", "row_ptr", "transpose"))


def register(name: str, prepare_second: Prepare = prepare_nothing) -> None:
    """Give `nequip::<name>`, `..._backward` and `..._double_backward` fake functions and derivatives.

    Args:
        prepare_second: called with the specification and dtype before the Hessian is first needed.
    """

    def empty_value(*arguments: Any) -> Tensor:
        x, row_ptr, spec = arguments[0], arguments[5], arguments[7]
        return x.new_empty(row_ptr.shape[0] - 1, parse(spec).irreps_out.dim)

    register_shapes(name, SIGNATURE, empty_value, prepare_second)
    register_derivatives(name, prepare_second)
