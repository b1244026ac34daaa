"""Sums in C++ on the CPU: `torch.ops.nequip.segment_sum`, a loop over the rows of each center."""

from __future__ import annotations

from functools import cache

import torch

from nequip.errors import KernelError
from nequip.kernels.native.library import load_operators
from nequip.kernels.scatter import autograd, reference
from nequip.typing import Float, Int, Tensor


def segment_sum(
    values: Float[Tensor, "edge column"], row_ptr: Int[Tensor, " atom+1"]
) -> Float[Tensor, "atom column"]:
    """`out[n] = Σ values[e]` over the edges of center n.

    Raises:
        KernelError: without a C++ compiler, and for tensors on another device.
    """
    if values.device.type != "cpu":
        raise KernelError(
            f"segment_sum: backend native runs on the cpu, but values is on {values.device}: choose triton."
        )
    prepare()
    return torch.ops.nequip.segment_sum(values, row_ptr)


@torch.compiler.assume_constant_result
def prepare() -> None:
    """Build and load the operators, if that was not done yet."""
    _operators()


@cache
def _operators() -> None:
    load_operators()
    autograd.register_sum("segment_sum", reference.segment_spread)
