"""Radial functions of the normalised distance x = r / r_c."""

from __future__ import annotations

from dataclasses import dataclass
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


def switching_cutoff(x: Float[Tensor, ...], onset: float) -> Float[Tensor, ...]:
    """1 up to `onset`, from there smoothly to 0 at x = 1; 0 beyond. Its curvature jumps at the onset.

    `(1 - x²)² (1 + 2 x² - 3 a²) / (1 - a²)³` with a the onset: the switch called XPLOR or CHARMM's.
    Source: Brooks et al., J. Comput. Chem. 4, 187 (1983).
    """
    square, start = x**2, onset**2
    switched = (1 - square) ** 2 * (1 + 2 * square - 3 * start) / (1 - start) ** 3
    return torch.where(x < onset, 1.0, torch.where(x > 1, 0.0, switched))


@dataclass(frozen=True)
class Cutoff:
    """How edges go to zero at the cutoff: by the polynomial, or by the switch where an onset is given."""

    p: int
    onset: float | None = None

    def __call__(self, x: Float[Tensor, ...]) -> Float[Tensor, ...]:
        return polynomial_cutoff(x, self.p) if self.onset is None else switching_cutoff(x, self.onset)

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where its curvature jumps before the cutoff."""
        return () if self.onset is None else (self.onset,)
