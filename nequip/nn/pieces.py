"""Sums over edges a piece at a time, so that what edges carry need not all be in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.utils.checkpoint import checkpoint

from nequip.kernels.edges import Edges
from nequip.o3 import join, split
from nequip.typing import Float, Tensor

# Edges of a piece. With 30 paths of 32 channels in float32 their weights are 250 MB.
PIECE = 65536

# On a GPU, which is the faster the more it has to do at once: 2 GB.
GPU_PIECE = 8 * PIECE

Message = Callable[..., Float[Tensor, "row column"]]


def in_pieces(
    message: Message, edges: Edges, *, on_edges: Sequence[Tensor], on_rows: Sequence[Tensor] = ()
) -> Float[Tensor, "row column"]:
    """`message(*on_edges, *on_rows, edges)`, whole rows of edges at a time and again in the backward pass.

    In one go where there are few edges, and in a trace, which knows no numbers yet. In the edges of a
    piece centers count from its first row; neighbors stay as they are.

    Args:
        on_edges: one entry for each edge.
        on_rows: one entry for each row.
    """
    count = edges.center.shape[0]
    size = PIECE if edges.center.device.type == "cpu" else GPU_PIECE
    if torch.compiler.is_compiling() or type(count) is not int or count <= size:
        return message(*on_edges, *on_rows, edges)
    rows = _boundaries(edges, size)
    edge_counts, row_counts = edges.row_ptr[rows].diff().tolist(), torch.tensor(rows).diff().tolist()
    columns = [split(x, edge_counts, 0) for x in on_edges] + [split(x, row_counts, 0) for x in on_rows]
    parts: list[Tensor] = []
    for n, inputs in enumerate(zip(*columns, strict=True)):
        piece = _between(edges, rows[n], rows[n + 1])
        part = checkpoint(message, *inputs, piece, use_reentrant=False)
        assert isinstance(part, Tensor)
        parts.append(part)
    return join(parts, 0)


def _boundaries(edges: Edges, size: int) -> list[int]:
    """Rows that begin a piece, and the end of the last."""
    row_ptr = edges.row_ptr
    last = row_ptr.shape[0] - 1
    starts = torch.arange(0, edges.center.shape[0], size, device=row_ptr.device)
    rows = torch.searchsorted(row_ptr, starts, right=True) - 1
    return [0, *torch.unique(rows).tolist()[1:], last]


def _between(edges: Edges, first: int, last: int) -> Edges:
    """The edges of rows [first, last), as a graph of its own."""
    row_ptr = edges.row_ptr[first : last + 1]
    begin, end = int(row_ptr[0]), int(row_ptr[-1])
    neighbor = edges.neighbor[begin:end]
    return Edges(edges.center[begin:end] - first, neighbor, row_ptr - begin, neighbor.argsort(stable=True))
