"""A neighbor list for structures that move little from one call to the next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import Cutoffs, Neighbors, TypeMapper, build_graph, check_overlap, find_neighbors
from nequip.nn.geometry import edge_geometry
from nequip.typing import Float, Tensor

# The search and the pruning round differently; the candidates reach this much farther, so that the
# pruning alone decides on a pair at the cutoff.
ROUNDING = 1e-6  # Å


class VerletList:
    """Candidate edges out to `r_max + skin`, pruned to those within the cutoff at every call.

    Two atoms come closer by at most twice the largest displacement d, so no edge is missed while
    2 d ≤ skin. Candidates are in the order (center, neighbor, shift): the graph is the same tensors,
    bit by bit, whatever the skin and whenever the last search was.
    """

    def __init__(self, mapper: TypeMapper, cutoffs: Cutoffs, skin: float):
        """`skin` in Å; 0 searches anew whenever an atom moved."""
        self.mapper = mapper
        self.cutoffs = cutoffs
        self.skin = skin
        self.num_searches = 0
        self._frame: Frame | None = None  # of the last search
        self._candidates: AtomicGraph | None = None

    def graph(self, frame: Frame, device: torch.device) -> AtomicGraph:
        """The graph of `frame` on `device`, without labels.

        Raises:
            DataError: for unknown elements, and whatever `find_neighbors` refuses.
        """
        if self._candidates is None or not self._still_valid(frame):
            self._candidates = self._search(frame).to(device)
            self._frame = frame
            self.num_searches += 1
        positions = torch.tensor(frame.positions, dtype=torch.float64, device=device)
        return prune(self._candidates._replace(positions=positions.reshape(-1, 3)), self.cutoffs)

    def _still_valid(self, frame: Frame) -> bool:
        last = self._frame
        assert last is not None
        if (
            not np.array_equal(frame.numbers, last.numbers)
            or not np.array_equal(frame.cell, last.cell)
            or frame.pbc != last.pbc
        ):
            return False
        moved = np.linalg.norm(frame.positions - last.positions, axis=-1).max(initial=0.0)
        return bool(2 * moved <= self.skin)  # false for NaN too: the search refuses it in a sentence

    def _search(self, frame: Frame) -> AtomicGraph:
        frame = replace(frame, energy=None, forces=None, stress=None)
        types = self.mapper(frame.numbers)
        found = find_neighbors(frame, types, widen(self.cutoffs, self.skin + ROUNDING))
        order = np.lexsort((*found.shift.T[::-1], found.neighbor, found.center))
        ordered = Neighbors(found.center[order], found.neighbor[order], found.shift[order])
        return build_graph(frame, self.mapper, self.cutoffs, neighbors=ordered)


def widen(cutoffs: Cutoffs, margin: float) -> Cutoffs:
    """Every cutoff larger by `margin` (Å)."""
    table = cutoffs.per_edge_type
    if table is not None:
        table = tuple(tuple(limit + margin for limit in row) for row in table)
    return Cutoffs(cutoffs.r_max + margin, table)


def prune(graph: AtomicGraph, cutoffs: Cutoffs) -> AtomicGraph:
    """Drop the edges beyond their cutoff; the order of the others stays.

    Raises:
        DataError: for atoms that moved onto each other since the last search.
    """
    length = edge_geometry(graph).length
    check_overlap(length.detach().cpu().numpy(), graph.center.cpu().numpy(), graph.neighbor.cpu().numpy())
    keep = length < _edge_limits(graph, cutoffs)
    kept_before = torch.nn.functional.pad(keep.cumsum(0), (1, 0))
    return graph._replace(
        center=graph.center[keep],
        neighbor=graph.neighbor[keep],
        row_ptr=kept_before[graph.row_ptr],
        transpose=kept_before[graph.transpose[keep[graph.transpose]]],
        shift=graph.shift[keep],
    )


def _edge_limits(graph: AtomicGraph, cutoffs: Cutoffs) -> Float[Tensor, " edge"] | float:
    if cutoffs.per_edge_type is None:
        return cutoffs.r_max
    table = torch.tensor(cutoffs.per_edge_type, dtype=torch.float64, device=graph.positions.device)
    return table[graph.types[graph.center], graph.types[graph.neighbor]]
