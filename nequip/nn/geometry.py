"""Vectors and distances along edges, in float64 whatever the model's dtype."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import Cutoffs
from nequip.typing import Float, Tensor


class EdgeGeometry(NamedTuple):
    """Where the neighbor of each edge lies, seen from its center."""

    unit: Float[Tensor, "edge 3"]
    length: Float[Tensor, " edge"]  # Å


def edge_geometry(graph: AtomicGraph) -> EdgeGeometry:
    """`r_ij = r_j - r_i + S @ cell`, split into length and direction."""
    offset = torch.bmm(graph.shift.unsqueeze(1), graph.cell[graph.batch[graph.center]]).squeeze(1)
    vector = (
        graph.positions.index_select(0, graph.neighbor)
        - graph.positions.index_select(0, graph.center)
        + offset
    )
    length = torch.linalg.vector_norm(vector, dim=1)
    return EdgeGeometry(vector / length.unsqueeze(1), length)


class NormalizedLength(torch.nn.Module):
    """x = r / r_max, or r / r_c[type of center, type of neighbor]."""

    inverse: Tensor

    def __init__(self, cutoffs: Cutoffs):
        super().__init__()
        table = cutoffs.per_edge_type or ((cutoffs.r_max,),)
        inverse = 1.0 / torch.tensor(table, dtype=torch.float64)
        self.register_buffer("inverse", inverse, persistent=False)

    def forward(self, length: Float[Tensor, " edge"], graph: AtomicGraph) -> Float[Tensor, " edge"]:
        if self.inverse.numel() == 1:
            return length * self.inverse.squeeze()
        return length * self.inverse[graph.types[graph.center], graph.types[graph.neighbor]]
