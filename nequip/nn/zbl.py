"""The Ziegler-Biersack-Littmark repulsion of nuclei at short distance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase.data import atomic_numbers

from nequip.data.graph import AtomicGraph
from nequip.nn.radial import polynomial_cutoff
from nequip.typing import Float, Tensor
from nequip.units import COULOMB_CONSTANT

# Coefficients and screening length of LAMMPS `pair zbl`.
_AMPLITUDES = (0.02817, 0.28022, 0.50986, 0.18175)
_EXPONENTS = (0.20162, 0.40290, 0.94229, 3.19980)
_LENGTH = 0.46850  # Å
_POWER = 0.23


class ZBL(torch.nn.Module):
    """`½ k Z_i Z_j / r · ψ(d) · cutoff(x)` per directed edge, `d = (Z_i^0.23 + Z_j^0.23) r / 0.4685`."""

    charges: Tensor

    def __init__(self, type_names: Sequence[str], cutoff_p: int = 6):
        super().__init__()
        self.cutoff_p = cutoff_p
        numbers = [float(atomic_numbers[name]) for name in type_names]
        self.register_buffer("charges", torch.tensor(numbers, dtype=torch.float64), persistent=False)

    def forward(
        self, graph: AtomicGraph, length: Float[Tensor, " edge"], x: Float[Tensor, " edge"]
    ) -> Float[Tensor, " atom"]:
        """Energy in eV of each center; `length` in Å and `x` = length / cutoff."""
        center, neighbor = self.charges[graph.types[graph.center]], self.charges[graph.types[graph.neighbor]]
        distance = (center**_POWER + neighbor**_POWER) * length / _LENGTH
        screening = torch.zeros_like(length)
        for amplitude, exponent in zip(_AMPLITUDES, _EXPONENTS, strict=True):
            screening = screening + amplitude * torch.exp(-exponent * distance)
        energy = 0.5 * COULOMB_CONSTANT * center * neighbor / length * screening
        energy = energy * polynomial_cutoff(x, self.cutoff_p)
        return energy.new_zeros(graph.num_owned).index_add(0, graph.center, energy)
