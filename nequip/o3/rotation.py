"""Rotations and what they do to features."""

from __future__ import annotations

import torch

from nequip.o3.irreps import Irrep
from nequip.o3.spherical_harmonics import spherical_harmonics
from nequip.typing import Float, Tensor


def wigner_d(matrix: Float[Tensor, "3 3"], irrep: Irrep) -> Float[Tensor, "m m"]:
    """The matrix by which `irrep` transforms under an orthogonal 3x3 `matrix` (det ±1).

    Solved from Y(R r) = D Y(r) on random directions; an improper rotation is -1 times a proper one.
    """
    sign = 1.0 if torch.linalg.det(matrix) > 0 else -1.0
    directions = torch.randn(
        4 * irrep.dim, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(irrep.l)
    )
    directions = torch.nn.functional.normalize(directions, dim=1)
    block = slice(irrep.l**2, (irrep.l + 1) ** 2)
    before = spherical_harmonics(directions, irrep.l)[:, block]
    after = spherical_harmonics(directions @ (sign * matrix.double()).T, irrep.l)[:, block]
    parity = irrep.p if sign < 0 else 1
    return parity * torch.linalg.lstsq(before, after).solution.T
