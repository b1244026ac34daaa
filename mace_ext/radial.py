"""What a radial network sees of an edge: functions of its length, some by the covalent radii of its ends."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from math import pi, sqrt
from typing import Literal

import torch
from ase.data import atomic_numbers, covalent_radii

from mace_ext.config import MACEConfig
from nequip.nn.radial import BesselBasis, polynomial_cutoff
from nequip.nn.radial_table import RadialFunction
from nequip.typing import Float, Int, Tensor

# Agnesi's, of ACEpotentials.jl (Witt et al., J. Chem. Phys. 159, 164101): where, how steep, how far.
AGNESI = {"q": 0.9183, "p": 4.5791, "a": 1.0805}
# Steepness of the soft transform, over the width of its step.
SOFT_ALPHA = 4.0


class ChebyshevBasis(torch.nn.Module):
    """`T_n(r)`, n = 1..num_basis, of the length in Å."""

    def __init__(self, num_basis: int, r_max: float):
        super().__init__()
        self.num_basis, self.r_max = num_basis, r_max

    def forward(self, x: Float[Tensor, " edge"]) -> Float[Tensor, "edge basis"]:
        """`x` is the length over r_max."""
        length = x * self.r_max
        values = [torch.ones_like(length), length]
        while len(values) <= self.num_basis:
            values.append(2 * length * values[-1] - values[-2])
        return torch.stack(values[1:], dim=1)


class GaussianBasis(torch.nn.Module):
    """`exp(-½ ((N - 1) (x - c_n))²)` around N centers, from 0 to the cutoff at equal distances."""

    centers: Tensor

    def __init__(self, num_basis: int):
        super().__init__()
        self.register_buffer("centers", torch.linspace(0, 1, num_basis, dtype=torch.float64))

    def forward(self, x: Float[Tensor, " edge"]) -> Float[Tensor, "edge basis"]:
        """`x` is the length over r_max."""
        places = (len(self.centers) - 1) * (x.unsqueeze(1) - self.centers)
        return torch.exp(-0.5 * places**2)


class CovalentRadii(torch.nn.Module):
    """Sums of the covalent radii of two atoms, in Å, and a number for each pair of elements."""

    radii: Tensor

    def __init__(self, type_names: Sequence[str]):
        super().__init__()
        radii = [covalent_radii[atomic_numbers[name]] for name in type_names]
        self.register_buffer("radii", torch.tensor(radii, dtype=torch.float64), persistent=False)

    def forward(self, center: Int[Tensor, " edge"], neighbor: Int[Tensor, " edge"]) -> Float[Tensor, " edge"]:
        """`center` and `neighbor` are the types of the atoms."""
        return self.radii[center] + self.radii[neighbor]

    def pair(self, center: Int[Tensor, " edge"], neighbor: Int[Tensor, " edge"]) -> Int[Tensor, " edge"]:
        """The number of the pair, whichever of the two comes first."""
        low, high = torch.minimum(center, neighbor), torch.maximum(center, neighbor)
        return torch.div(high * (high + 1), 2, rounding_mode="floor") + low

    def of_pairs(self) -> list[float]:
        """The sum of every pair, in the order of their numbers."""
        radii = self.radii.tolist()
        return [radii[low] + radii[high] for high in range(len(radii)) for low in range(high + 1)]


def agnesi(length: Float[Tensor, " edge"], bond: Float[Tensor, " edge"]) -> Float[Tensor, " edge"]:
    """`1 / (1 + a y^q / (1 + y^(q - p)))`, `y = length / (bond / 2)`: 1 for nuclei that touch, 0 far away."""
    y = length / (0.5 * bond)
    q, p, a = AGNESI["q"], AGNESI["p"], AGNESI["a"]
    return 1 / (1 + a * y**q / (1 + y ** (q - p)))


def soft(length: Float[Tensor, " edge"], bond: Float[Tensor, " edge"]) -> Float[Tensor, " edge"]:
    """Å: the length beyond 4/3 of a bond, 3/4 of the bond at contact, and a smooth step between the two."""
    low, high = 0.75 * bond, bond * 4 / 3
    step = 0.5 * (1 + torch.tanh(SOFT_ALPHA / (high - low) * (length - 0.5 * (low + high))))
    return low + (length - low) * step


class RadialEmbedding(torch.nn.Module):
    """A basis of the length, transformed by covalent radii or not, times a cutoff of the plain length."""

    def __init__(self, config: MACEConfig):
        super().__init__()
        self.r_max, self.cutoff_p = config.r_max, config.polynomial_cutoff_p
        self.transform: Literal["agnesi", "soft"] | None = config.distance_transform
        self.scale = 1.0
        if config.radial_basis == "chebyshev":
            self.basis = ChebyshevBasis(config.num_basis, config.r_max)
        elif config.radial_basis == "gaussian":
            self.basis = GaussianBasis(config.num_basis)
        else:
            self.basis = BesselBasis(config.num_basis)
            self.scale = sqrt(2 / config.r_max) * pi / config.r_max  # theirs: √(2/rc) sin(w r) / r

    def forward(
        self,
        x: Float[Tensor, " edge"],
        length: Float[Tensor, " edge"],
        bond: Float[Tensor, " edge"],
    ) -> Float[Tensor, "edge basis"]:
        """`x` is the length over the cutoff; `length` and `bond`, the sum of covalent radii, in Å."""
        seen = x
        if self.transform is not None:
            transform = agnesi if self.transform == "agnesi" else soft
            seen = transform(length, bond) / self.r_max
        return self.basis(seen) * (polynomial_cutoff(x, self.cutoff_p).unsqueeze(1) * self.scale)

    def along(self, bond: float) -> RadialFunction:
        """The same as a function of x alone, for one sum of covalent radii in Å; on the CPU."""
        embedding = deepcopy(self).cpu()
        return lambda x: embedding(x, x * self.r_max, torch.full_like(x, bond))
