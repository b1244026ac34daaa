"""The repulsion of nuclei closer than the sum of their covalent radii, with the constants of MACE."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers

from nequip.data.graph import AtomicGraph
from nequip.nn.radial import polynomial_cutoff
from nequip.typing import Float, Tensor

AMPLITUDES = (0.1818, 0.5099, 0.2802, 0.02817)
_EXPONENTS = (3.2, 0.9423, 0.4028, 0.2016)
POWER = 0.3
PREFACTOR = 0.4543  # times the Bohr radius: the screening length
_BOHR = 0.529  # Å
_COULOMB = 14.3996  # eV Å


class PairRepulsion(torch.nn.Module):
    """`½ k Z_u Z_v / r · φ(r / a) · cutoff(r / (R_u + R_v))` per edge.

    `a = 0.4543 a_0 / (Z_u^0.3 + Z_v^0.3)`, and R are covalent radii. The universal screening φ of Ziegler,
    Biersack and Littmark, with rounded constants.
    """

    charges: Tensor

    def __init__(self, type_names: Sequence[str], cutoff_p: int):
        super().__init__()
        self.cutoff_p = cutoff_p
        numbers = [float(atomic_numbers[name]) for name in type_names]
        self.register_buffer("charges", torch.tensor(numbers, dtype=torch.float64), persistent=False)

    def forward(
        self, graph: AtomicGraph, length: Float[Tensor, " edge"], bond: Float[Tensor, " edge"]
    ) -> Float[Tensor, " owned"]:
        """Energy in eV of each center; `length` and `bond`, the sum of covalent radii, in Å."""
        center, neighbor = self.charges[graph.types[graph.center]], self.charges[graph.types[graph.neighbor]]
        scaled = length * (center**POWER + neighbor**POWER) / (PREFACTOR * _BOHR)
        screening = torch.zeros_like(length)
        for amplitude, exponent in zip(AMPLITUDES, _EXPONENTS, strict=True):
            screening = screening + amplitude * torch.exp(-exponent * scaled)
        energy = 0.5 * _COULOMB * center * neighbor / length * screening
        energy = energy * polynomial_cutoff(length / bond, self.cutoff_p)
        return energy.new_zeros(graph.num_owned).index_add(0, graph.center, energy)
