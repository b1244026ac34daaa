"""A sum over edges is the same in pieces as in one go."""

from __future__ import annotations

import pytest
import torch

from nequip.kernels.edges import Edges
from nequip.kernels.scatter import segment_sum
from nequip.nn import pieces


def graph(degrees: list[int]) -> Edges:
    counts = torch.tensor(degrees)
    center = torch.repeat_interleave(torch.arange(len(degrees)), counts)
    row_ptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    neighbor = center.flip(0)
    return Edges(center, neighbor, row_ptr, neighbor.argsort(stable=True))


@pytest.mark.parametrize(
    "degrees", [[3, 0, 4, 5, 0], [20], [0, 0, 1, 30, 1], [7] * 12, [0, 9]], ids=lambda degrees: str(degrees)
)
def test_values_and_two_orders_of_derivatives(degrees, monkeypatch):
    edges = graph(degrees)
    total = sum(degrees)
    arrays = [
        torch.randn(rows, 3, dtype=torch.float64, requires_grad=True) for rows in (len(degrees), total, total)
    ]
    calls: list[int] = []

    def run() -> list[torch.Tensor]:
        x, left, right = arrays

        def message(left: torch.Tensor, right: torch.Tensor, edges: Edges) -> torch.Tensor:
            calls.append(len(left))
            return segment_sum(x[edges.neighbor].sin() * left * right, edges.row_ptr)

        out = pieces.in_pieces(message, edges, on_edges=(left, right))
        first = torch.autograd.grad(out.square().sum(), arrays, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), arrays)
        return [out, *first, *second]

    whole = run()
    monkeypatch.setattr(pieces, "PIECE", 6)
    calls.clear()
    cut = run()
    assert len(calls) > 1 or max(degrees) == total
    for got, want in zip(cut, whole, strict=True):
        torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-12)
