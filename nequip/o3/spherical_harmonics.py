"""Real spherical harmonics of unit vectors, to any degree and differentiable to any order."""

from __future__ import annotations

from functools import cache
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray

from nequip.o3.clebsch_gordan import wigner_3j_array
from nequip.typing import Float, Tensor


def spherical_harmonics(unit: Float[Tensor, "edge 3"], l_max: int) -> Float[Tensor, "edge component"]:
    """Y_0 ... Y_{l_max} of unit vectors, concatenated; the parity of Y_l is (-1)^l.

    "Component" normalisation, |Y_l|² = 2l + 1; components m = -l..l about the y axis, so that
    Y_1 = √3 (x, y, z) and Y_l(ŷ) = √(2l+1) at m = 0. By recursion, Y_l = c_l C(Y_{l-1}, Y_1), each
    step one matrix product.
    """
    first = unit * sqrt(3.0)
    harmonics = [torch.ones_like(unit[:, :1]), first][: l_max + 1]
    for degree in range(2, l_max + 1):
        outer = (harmonics[-1].unsqueeze(2) * first.unsqueeze(1)).flatten(1)
        harmonics.append(outer @ torch.as_tensor(_raising(degree), dtype=unit.dtype, device=unit.device))
    return torch.cat(harmonics, dim=1)


@cache
def _raising(degree: int) -> NDArray[np.float64]:
    """c_l C as [previous x 3, component]; c_l keeps Y_l(ŷ) = √(2l+1) at m = 0."""
    coupling = wigner_3j_array(degree - 1, 1, degree)
    at_pole = sqrt(2 * degree - 1) * sqrt(3.0) * coupling[degree - 1, 1, degree]
    return (coupling * (sqrt(2 * degree + 1) / at_pole)).reshape(-1, 2 * degree + 1)
