"""What an atom adds to the dipole and the polarizability of a structure, read off its last features."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nequip.errors import ModelError
from nequip.kernels.backend import Backend
from nequip.nn.gate import Gate
from nequip.nn.linear import ElementLinear, IrrepsLinear
from nequip.o3 import Irrep, Irreps, split, wigner_3j
from nequip.typing import Float, Int, Tensor
from nequip.units import COULOMB_CONSTANT

SCALAR, VECTOR, QUADRUPOLE = Irrep(0, 1), Irrep(1, -1), Irrep(2, 1)
MOMENTS = Irreps([(1, SCALAR), (1, VECTOR), (1, QUADRUPOLE)])
CHANNELS = 16  # of the hidden layer, for each irrep


class Moments(NamedTuple):
    """By atom: minus the first and the second derivative of the energy by an electric field."""

    dipole: Float[Tensor, "atom 3"]  # e·Å
    polarizability: Float[Tensor, "atom 3 3"]  # e·Å²/V, symmetric


class FieldReadout(torch.nn.Module):
    """`Linear(Gate(Linear_type(h)))` to one 0e, one 1o and one 2e: α is the sum of 0e and 2e, µ is 1o.

    α comes out in Å³, so that numbers are of order one, and is turned into e·Å²/V.

    Raises:
        ModelError: for features without 0e, 1o or 2e.
    """

    basis: Tensor
    isotropic: Tensor

    def __init__(self, irreps_in: Irreps, num_types: int, dtype: torch.dtype, backend: Backend = "auto"):
        super().__init__()
        lacking = [str(irrep) for _, irrep in MOMENTS if irrep not in irreps_in]
        if lacking:
            raise ModelError(
                f"model.electric_field needs features 0e, 1o and 2e of atoms, and the last ones here are "
                f"{irreps_in}, without {' and '.join(lacking)}: give the model l_max of 2 or more "
                "(MACE: hidden_irreps with 1o and 2e), two layers or more, and parity true or false."
            )
        self.gate = Gate(Irreps((CHANNELS, irrep) for _, irrep in MOMENTS))
        self.hidden = ElementLinear(num_types, irreps_in, self.gate.irreps_in, dtype, backend)
        self.linear = IrrepsLinear(self.gate.irreps_out, MOMENTS, dtype, backend)
        self.isotropic = torch.nn.Parameter(torch.zeros(num_types, dtype=dtype))  # Å³, without neighbors
        symmetric = wigner_3j(1, 1, 2).permute(2, 0, 1).contiguous()  # [component, 3, 3]
        self.register_buffer("basis", symmetric, persistent=False)

    def forward(self, features: Float[Tensor, "atom component"], types: Int[Tensor, " atom"]) -> Moments:
        """Moments of atoms in float64."""
        read = self.linear(self.gate(self.hidden(features, types)))
        scalar, vector, quadrupole = split(read, [1, 3, 5])
        scalar = (scalar + self.isotropic[types].unsqueeze(1)).double()
        identity = torch.eye(3, dtype=torch.float64, device=features.device)
        basis = self.basis.double().flatten(1)
        volume = scalar.unsqueeze(2) * identity + (quadrupole.double() @ basis).unflatten(1, (3, 3))
        return Moments(vector.double(), volume / COULOMB_CONSTANT)
