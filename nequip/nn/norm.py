"""Normalisation of equivariant features."""

from __future__ import annotations

import torch

from nequip.o3 import Irreps, join
from nequip.typing import Float, Tensor


class RMSNorm(torch.nn.Module):
    """`w · x / √(1/K Σ_k |x_k|² / (2 l_k + 1)² + ε)`, atom by atom: one number divides all K irreps.

    |x_k|² runs over the components and channels of irrep k; w is one weight for each channel, at first 1.
    """

    epsilon = 1e-12

    def __init__(self, irreps: Irreps, dtype: torch.dtype):
        super().__init__()
        self.irreps = irreps
        self.weights = torch.nn.ParameterDict(
            (str(irrep), torch.ones(mul, dtype=dtype)) for mul, irrep in irreps
        )

    def forward(self, x: Float[Tensor, "atom component"]) -> Float[Tensor, "atom component"]:
        """Features of the same irreps, merged ones."""
        blocks = self.irreps.split(x)
        square = x.new_full((x.shape[0], 1), self.epsilon)
        for irrep, block in blocks.items():
            square = square + (block**2).sum(1, keepdim=True) / (irrep.dim**2 * len(blocks))
        scale = torch.rsqrt(square)
        weights = [self.weights[str(irrep)].repeat(irrep.dim) for irrep in blocks]
        return join([block * weight for block, weight in zip(blocks.values(), weights, strict=True)]) * scale
