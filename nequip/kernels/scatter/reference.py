"""The sum in plain PyTorch: what every other backend must agree with. See README.md."""

from __future__ import annotations

import torch

from nequip.typing import Float, Int, Tensor


def segment_sum(
    values: Float[Tensor, "edge column"], row_ptr: Int[Tensor, " atom+1"]
) -> Float[Tensor, "atom column"]:
    """`out[n] = Σ values[e]` over the edges of center n."""
    center = centers(row_ptr, values.shape[0])
    return values.new_zeros(row_ptr.shape[0] - 1, values.shape[1]).index_add(0, center, values)


def segment_spread(
    sums: Float[Tensor, "atom column"], row_ptr: Int[Tensor, " atom+1"], num_edges: int
) -> Float[Tensor, "edge column"]:
    """`out[e] = sums[center of e]`: the transpose of the sum, and so its gradient."""
    return sums.index_select(0, centers(row_ptr, num_edges))


def centers(row_ptr: Int[Tensor, " atom+1"], num_edges: int) -> Int[Tensor, " edge"]:
    """The center of every edge, without asking a GPU how many there are."""
    return torch.repeat_interleave(row_ptr.diff(), output_size=num_edges)
