"""Arguments and shapes of the contraction's operators, the same for every backend, and their derivatives."""

from __future__ import annotations

from functools import cache
from typing import Any

from allegro.contraction.spec import ContractionSpec
from nequip.kernels.operators import Signature, register_shapes
from nequip.kernels.trilinear import register_derivatives
from nequip.typing import Tensor

parse = cache(ContractionSpec.parse)

SIGNATURE = Signature("contract", ("tensors", "env", "weight"), ("row_ptr",))


def register(name: str) -> None:
    """Give `nequip::<name>`, `..._backward` and `..._double_backward` fake functions and derivatives."""

    def empty_value(*arguments: Any) -> Tensor:
        tensors, spec = arguments[0], arguments[-1]
        return tensors.new_empty(tensors.shape[0], parse(spec).irreps_out.dim)

    register_shapes(name, SIGNATURE, empty_value)
    register_derivatives(name)
