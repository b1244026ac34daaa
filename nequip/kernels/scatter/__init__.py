"""Sums of what edges carry onto their centers, with interchangeable backends."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from nequip.errors import KernelError, did_you_mean
from nequip.kernels.scatter import reference
from nequip.typing import Float, Int, Tensor

__all__ = ["BACKENDS", "segment_sum"]


def segment_sum(
    values: Float[Tensor, "edge ..."], row_ptr: Int[Tensor, " atom+1"], *, backend: str = "reference"
) -> Float[Tensor, "atom ..."]:
    """`out[n] = Σ values[e]` over the edges of center n, `row_ptr[n] <= e < row_ptr[n + 1]`.

    Zero where a center has no edges. Linear in `values`; its gradient is a gather, and it is
    differentiable to any order. The maths is in README.md.

    Args:
        values: sorted by center.
        row_ptr: ascending from 0 to the number of edges.
        backend: one of `BACKENDS`.

    Raises:
        KernelError: for a backend that cannot run here, and for arrays that do not fit.
    """
    if backend not in BACKENDS:
        raise KernelError(
            f"segment_sum: there is no backend {backend!r}{did_you_mean(backend, BACKENDS)}: choose one of "
            f"{', '.join(BACKENDS)}."
        )
    _check(values, row_ptr)
    num_edges, *width = values.shape
    columns = values.reshape(num_edges, math.prod(width))
    return BACKENDS[backend](columns, row_ptr).reshape(row_ptr.shape[0] - 1, *width)


def _native(values: Tensor, row_ptr: Tensor) -> Tensor:
    from nequip.kernels.scatter import native

    return native.segment_sum(values, row_ptr)


def _torch_scatter(values: Tensor, row_ptr: Tensor) -> Tensor:
    from nequip.kernels.scatter import torch_scatter

    return torch_scatter.segment_sum(values, row_ptr)


def _triton(values: Tensor, row_ptr: Tensor) -> Tensor:
    from nequip.kernels.scatter import triton

    return triton.segment_sum(values, row_ptr)


# What needs a compiler or a package is imported when it is first asked for.
BACKENDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "reference": reference.segment_sum,
    "native": _native,
    "torch_scatter": _torch_scatter,
    "triton": _triton,
}


def _check(values: Tensor, row_ptr: Tensor) -> None:
    shape, kind = list(values.shape), f"{values.dtype} on {values.device}"
    if not shape or values.dtype not in (torch.float32, torch.float64):
        raise KernelError(f"segment_sum: values is {shape} of {kind}, not [edge, ...] of float32 or float64.")
    if row_ptr.dim() != 1 or row_ptr.shape[0] == 0 or row_ptr.dtype != torch.int64:
        raise KernelError(
            f"segment_sum: row_ptr is {list(row_ptr.shape)} of {row_ptr.dtype}, not [atom + 1] of int64."
        )
    if values.device != row_ptr.device:
        raise KernelError(f"segment_sum: row_ptr is on {row_ptr.device} where values is {kind}.")
    # A GPU would have to be waited for, and a trace has no numbers yet: there row_ptr is trusted.
    if row_ptr.device.type != "cpu" or torch.compiler.is_compiling() or type(row_ptr) is not Tensor:
        return
    first, last = int(row_ptr[0]), int(row_ptr[-1])
    if first != 0 or last != shape[0] or bool((row_ptr.diff() < 0).any()):
        raise KernelError(
            f"segment_sum: row_ptr runs from {first} to {last} or descends between, but must ascend from 0 "
            f"to {shape[0]}, the rows of values."
        )
