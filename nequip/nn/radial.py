"""Radial functions of the normalised distance x = r / r_c."""

from __future__ import annotations

from math import pi

import torch

from nequip.typing import Float, Tensor


class BesselBasis(torch.nn.Module):
    """`b_n(x) = sin(n π x) / (π x)`, n = 1..num_bessels, with n trainable or not.

    Source: Gasteiger et al., arXiv:2003.03123, eq. 7, in the normalisation of NequIP.
    """

    roots: Tensor

    def __init__(self, num_bessels: int, trainable: bool = False):
        super().__init__()
        roots = torch.arange(1, num_bessels + 1, dtype=torch.float64)
        if trainable:
            self.roots = torch.nn.Parameter(roots)
        else:
            self.register_buffer("roots", roots)

    def forward(self, x: Float[Tensor, " edge"]) -> Float[Tensor, "edge bessel"]:
        angle = pi * x.unsqueeze(1)
        return torch.sin(angle * self.roots) / angle


def polynomial_cutoff(x: Float[Tensor, ...], p: int) -> Float[Tensor, ...]:
    """1 at x = 0, and 0 with two derivatives at x = 1; 0 beyond.

    `1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)`. Source: arXiv:2003.03123, eq. 8.
    """
    power = x**p
    inside = 1 - power * ((p + 1) * (p + 2) / 2 - x * (p * (p + 2) - x * (p * (p + 1) / 2)))
    return torch.where(x < 1, inside, 0.0)
