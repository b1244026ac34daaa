"""Sums over edges a piece at a time, so that what edges carry need not all be in memory at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

from nequip.kernels.edges import Edges
from nequip.o3 import join, split
from nequip.typing import Float, Tensor

# Edges of a piece. With 30 paths of 32 channels in float32 their weights are 250 MB.
PIECE = 65536

Message = Callable[[Float[Tensor, "edge a"], Float[Tensor, "edge b"], Edges], Float[Tensor, "row column"]]


def in_pieces(
    message: Message, left: Float[Tensor, "edge a"], right: Float[Tensor, "edge b"], edges: Edges
) -> Float[Tensor, "row column"]:
    """`message(left, right, edges)`, whole rows of edges at a time and once more in the backward pass.

    In one go where there are few edges, and in a trace, which knows no numbers yet.
    """
    count = edges.center.shape[0]
    if torch.compiler.is_compiling() or type(count) is not int or count <= PIECE:
        return message(left, right, edges)
    rows = _boundaries(edges)
    sizes = edges.row_ptr[rows].diff().tolist()
    parts: list[Tensor] = []
    lefts, rights = split(left, sizes, 0), split(right, sizes, 0)
    for n, (a, b) in enumerate(zip(lefts, rights, strict=True)):
        part = checkpoint(message, a, b, _between(edges, rows[n], rows[n + 1]), use_reentrant=False)
        assert isinstance(part, Tensor)
        parts.append(part)
    return join(parts, 0)


def _boundaries(edges: Edges) -> list[int]:
    """Rows that begin a piece, and the end of the last."""
    row_ptr = edges.row_ptr
    last = row_ptr.shape[0] - 1
    starts = torch.arange(0, edges.center.shape[0], PIECE, device=row_ptr.device)
    rows = torch.searchsorted(row_ptr, starts, right=True) - 1
    return [0, *torch.unique(rows).tolist()[1:], last]


def _between(edges: Edges, first: int, last: int) -> Edges:
    """The edges of rows [first, last), as a graph of its own."""
    row_ptr = edges.row_ptr[first : last + 1]
    begin, end = int(row_ptr[0]), int(row_ptr[-1])
    neighbor = edges.neighbor[begin:end]
    return Edges(edges.center[begin:end] - first, neighbor, row_ptr - begin, neighbor.argsort(stable=True))
