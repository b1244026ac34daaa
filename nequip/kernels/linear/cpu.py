"""Linear maps in C++ on the CPU: all irreps in one operator.

With few atoms the time of a product of matrices is that of calling it; there are six irreps and more,
and each has its own in every order of derivatives.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from nequip.kernels.linear.spec import LinearSpec
from nequip.kernels.native.library import load_operators
from nequip.kernels.operators import is_wanted
from nequip.typing import Float, Int, Tensor


def map_irreps(
    x: Float[Tensor, "atom component_in"],
    weight: Float[Tensor, "type weight"],
    types: Int[Tensor, " atom"] | None,
    spec: LinearSpec,
) -> Float[Tensor, "atom component_out"]:
    """See nequip.kernels.linear.map_irreps.

    Raises:
        KernelError: without a C++ compiler.
    """
    prepare()
    if types is None:
        types = torch.empty(0, dtype=torch.int64, device=x.device)
    return torch.ops.nequip.map_irreps(x, weight, types, spec.text, False)


@torch.compiler.assume_constant_result
@cache
def prepare() -> None:
    """Load the operators, and give them shapes and derivatives.

    `Φ(g, x, W) = Σ g · (x W)` is linear in each: the map, its transpose and the gradient by W are its
    three partial derivatives, and those of each are again two of the three.
    """
    load_operators()
    ops = torch.ops.nequip

    def fake_map(x: Tensor, weight: Tensor, types: Tensor, spec: str, transposed: bool) -> Tensor:
        columns = spec.split(";", 1)[0].split(",")
        return x.new_empty(x.shape[0], int(columns[0 if transposed else 1]))

    def fake_weight(x: Tensor, grad: Tensor, types: Tensor, num_types: int, spec: str) -> Tensor:
        return x.new_empty(num_types, int(spec.split(";", 1)[0].split(",")[2]))

    def keep_map(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.spec, ctx.transposed = inputs[3:]

    def backward_map(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, types = ctx.saved_tensors
        dx = ops.map_irreps(grad, weight, types, ctx.spec, not ctx.transposed)
        dweight = None
        if is_wanted(ctx, 1):
            left, right = (grad, x) if ctx.transposed else (x, grad)
            dweight = ops.map_irreps_weight(left, right, types, weight.shape[0], ctx.spec)
        return dx, dweight, None, None, None

    def keep_weight(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.spec = inputs[4]

    def backward_weight(ctx: Any, along: Tensor) -> tuple[Any, ...]:
        x, grad, types = ctx.saved_tensors
        dx = ops.map_irreps(grad, along, types, ctx.spec, True)
        dgrad = ops.map_irreps(x, along, types, ctx.spec, False)
        return dx, dgrad, None, None, None

    torch.library.register_fake("nequip::map_irreps")(fake_map)
    torch.library.register_fake("nequip::map_irreps_weight")(fake_weight)
    torch.library.register_autograd("nequip::map_irreps", backward_map, setup_context=keep_map)
    torch.library.register_autograd("nequip::map_irreps_weight", backward_weight, setup_context=keep_weight)
