"""Sums by a Triton kernel: one program for each center and block of columns, no atomics."""

from __future__ import annotations

import torch
from torch import Tensor  # without shapes: operators read their schema from the annotations

from nequip.errors import KernelError
from nequip.kernels.scatter import autograd, reference

try:
    import triton
    import triton.language as tl
    from triton import knobs
except ImportError as error:
    raise KernelError(
        f"segment_sum: backend triton cannot be imported ({error}): install triton, or choose reference."
    ) from error

MAX_COLUMNS = 128
TILE = 1024  # numbers that a program holds: eight for each thread of four warps


@triton.jit
def sum_kernel(
    values: tl.tensor,
    row_ptr: tl.tensor,
    sums: tl.tensor,
    num_edges: tl.tensor,
    width: tl.tensor,
    stride_edge: tl.tensor,
    stride_column: tl.tensor,
    EDGES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """`sums[n, c] = Σ values[e, c]` over `row_ptr[n] <= e < row_ptr[n + 1]`, EDGES rows at a time."""
    center = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    # Nobody has looked into row_ptr on a GPU: whatever it says, no address outside `values` is read.
    first = tl.maximum(tl.load(row_ptr + center), 0)
    last = tl.minimum(tl.load(row_ptr + center + 1), num_edges)
    scalar = sums.dtype.element_ty  # pyright: ignore[reportAttributeAccessIssue]  # what a pointer points to
    total = tl.zeros([EDGES, COLUMNS], dtype=scalar)
    for start in range(first, last, EDGES):
        edge = start + tl.arange(0, EDGES)
        address = values + edge[:, None] * stride_edge + column[None, :] * stride_column
        total += tl.load(address, mask=(edge < last)[:, None] & inside[None, :], other=0.0)
    tl.store(sums + center * width + column, tl.sum(total, axis=0), mask=inside)


# Under TRITON_INTERPRET=1 the decorator gives an interpreter instead, which takes tensors on the CPU.
NEEDS_GPU = not knobs.runtime.interpret


def segment_sum(values: Tensor, row_ptr: Tensor) -> Tensor:
    """`out[n] = Σ values[e]` over the edges of center n.

    Raises:
        KernelError: for tensors on the CPU.
    """
    if NEEDS_GPU and values.device.type == "cpu":
        raise KernelError("segment_sum: backend triton needs a GPU, but values is on cpu: choose reference.")
    return torch.ops.nequip.segment_sum_triton(values, row_ptr)


def launch(values: Tensor, row_ptr: Tensor) -> Tensor:
    """The body of the operator: compilers look into it."""
    num_edges, width = values.shape
    num_atoms = row_ptr.shape[0] - 1
    sums = values.new_empty(num_atoms, width)
    columns = next((size for size in (1, 2, 4, 8, 16, 32, 64) if size >= width), MAX_COLUMNS)
    grid = (num_atoms, triton.cdiv(width, columns))
    edges = min(TILE // columns, 32)
    torch.library.wrap_triton(sum_kernel)[grid](
        values, row_ptr, sums, num_edges, width, *values.stride(), EDGES=edges, COLUMNS=columns
    )
    return sums


def spread(grad: Tensor, row_ptr: Tensor, num_edges: int) -> Tensor:
    """A gather, which torch does as well; an operator, so that its own gradient has no atomics either."""
    return reference.segment_spread(grad, row_ptr, num_edges)


torch.library.triton_op("nequip::segment_sum_triton", launch, mutates_args=())
torch.library.triton_op("nequip::segment_sum_triton_backward", spread, mutates_args=())
autograd.register_sum("segment_sum_triton", torch.ops.nequip.segment_sum_triton_backward)
autograd.register_transpose("segment_sum_triton_backward", torch.ops.nequip.segment_sum_triton)
