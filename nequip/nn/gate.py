"""The equivariant nonlinearity: scalars pass an activation, everything else is scaled by one."""

from __future__ import annotations

import torch

from nequip.o3 import Irrep, Irreps, join, split
from nequip.typing import Float, Tensor

# 1/√⟨f(z)²⟩ for z ~ N(0, 1): both activations keep unit variance.
SILU_SCALE = 1.6791767923989418
TANH_SCALE = 1.5937334472592695

EVEN, ODD = Irrep(0, 1), Irrep(0, -1)


class Gate(torch.nn.Module):
    """`s -> act(s)` for scalars and `v -> act(g) v` for every channel v of l > 0.

    Even scalars pass a scaled SiLU, odd ones a scaled tanh. The input carries one gate scalar for
    each gated channel, even where `available` has even scalars.

    Attributes:
        irreps_in: sorted (0o < 0e < 1o < ...); within a scalar irrep first the scalars, then the gates.
        irreps_out: scalars, then gated, in the order of `irreps`.
    """

    def __init__(self, irreps: Irreps, available: Irreps | None = None):
        super().__init__()
        scalars = [(mul, irrep) for mul, irrep in irreps if irrep.l == 0]
        self.gated = [(mul, irrep) for mul, irrep in irreps if irrep.l > 0]
        self.scalars = scalars
        self.num_gates = sum(mul for mul, _ in self.gated)
        self.gate_irrep = EVEN if available is None or EVEN in available else ODD
        gates = [(self.num_gates, self.gate_irrep)] if self.gated else []
        self.irreps_in = Irreps(sorted(scalars + gates + self.gated, key=lambda term: term[1])).merged()
        self.irreps_out = Irreps(scalars + self.gated)

    def forward(self, x: Float[Tensor, "atom component_in"]) -> Float[Tensor, "atom component_out"]:
        """Features of `irreps_out` from scalars, gates and gated ones."""
        blocks = self.irreps_in.split(x)
        if self.gated:
            scalars = blocks[self.gate_irrep].shape[1] - self.num_gates
            blocks[self.gate_irrep], gates = split(blocks[self.gate_irrep], [scalars, self.num_gates])
        outputs = [_activate(blocks[irrep], irrep) for _, irrep in self.scalars]
        if self.gated:
            gates = _activate(gates, self.gate_irrep)
            parts = split(gates, [mul for mul, _ in self.gated])
            for (mul, irrep), gate in zip(self.gated, parts, strict=True):
                vectors = blocks[irrep].unflatten(1, (irrep.dim, mul))
                outputs.append((vectors * gate.unsqueeze(1)).flatten(1))
        return join(outputs)


def _activate(x: Tensor, irrep: Irrep) -> Tensor:
    if irrep == EVEN:
        return SILU_SCALE * torch.nn.functional.silu(x)
    return TANH_SCALE * torch.tanh(x)
