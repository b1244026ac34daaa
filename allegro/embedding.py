"""What an edge alone says: functions of its length and of the types of its two ends."""

from __future__ import annotations

from math import pi, sqrt

import torch

from nequip.nn.mlp import ScalarMLP
from nequip.nn.radial import BesselBasis, polynomial_cutoff
from nequip.o3 import join
from nequip.typing import Float, Int, Tensor

# Up to here one product over all pairs of types, zeros in the place of every other pair, is taken
# instead of a matrix gathered for each edge.
MANY_PAIRS = 16


class BesselEmbedding(torch.nn.Module):
    """`(a[t_i] ‖ b[t_j]) ⊙ W (b_n(x) u(x))`: embedded types times mixed Bessel functions, enveloped by u."""

    def __init__(self, num_types: int, basis: BesselBasis, cutoff_p: int, dim: int, dtype: torch.dtype):
        super().__init__()
        self.basis, self.cutoff_p = basis, cutoff_p
        self.center = torch.nn.Parameter(torch.randn(num_types, dim // 2, dtype=dtype))
        self.neighbor = torch.nn.Parameter(torch.randn(num_types, dim // 2, dtype=dtype))
        self.mix = ScalarMLP([basis.roots.numel(), dim], dtype)

    def forward(self, x: Float[Tensor, " edge"], pair: Int[Tensor, " edge"]) -> Float[Tensor, "edge scalar"]:
        """Scalars of edges of normalised length x, between atoms of types `t_i · num_types + t_j = pair`."""
        radial = self.basis(x) * polynomial_cutoff(x, self.cutoff_p).unsqueeze(1)
        both = (len(self.center), len(self.neighbor), self.center.shape[1])
        types = join([self.center.unsqueeze(1).expand(both), self.neighbor.unsqueeze(0).expand(both)], dim=2)
        return types.flatten(0, 1).index_select(0, pair) * self.mix(radial.to(types.dtype))


class SplineEmbedding(torch.nn.Module):
    """`W[t_i, t_j] B(x)`: for each ordered pair of types its own mixture of the same bumps.

    `B_k(x) = ¼ (1 - cos(2π (x - lo_k) / Δ))²` on `[lo_k, lo_k + Δ]`, 0 elsewhere, with
    `lo_k = (k - span) / N`, `Δ = (span + 1) / N`, k = 0 ... N - 1: all vanish at x = 1, three times over.
    """

    lower: Tensor

    def __init__(self, num_types: int, num_splines: int, span: int, dim: int, dtype: torch.dtype):
        super().__init__()
        self.width = (span + 1) / num_splines
        lower = torch.arange(-span, num_splines - span, dtype=torch.float64) / num_splines
        self.register_buffer("lower", lower, persistent=False)
        # about `span` bumps overlap at any x
        weight = torch.empty(num_types**2, dim, num_splines, dtype=dtype)
        self.weight = torch.nn.Parameter(weight.uniform_(-sqrt(3 / span), sqrt(3 / span)))

    def forward(self, x: Float[Tensor, " edge"], pair: Int[Tensor, " edge"]) -> Float[Tensor, "edge scalar"]:
        """As BesselEmbedding."""
        inside = (x.unsqueeze(1) - self.lower).clamp(0.0, self.width)
        bumps = 0.25 * (1 - torch.cos(inside * (2 * pi / self.width))).square()
        bumps = bumps.to(self.weight.dtype)
        if len(self.weight) > MANY_PAIRS:
            return torch.bmm(self.weight.index_select(0, pair), bumps.unsqueeze(2)).squeeze(2)
        chosen = pair.unsqueeze(1) == torch.arange(len(self.weight), device=pair.device)
        placed = (chosen.to(bumps.dtype).unsqueeze(2) * bumps.unsqueeze(1)).flatten(1)
        return placed @ self.weight.transpose(1, 2).flatten(0, 1)
