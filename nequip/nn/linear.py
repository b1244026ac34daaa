"""Linear maps that mix channels of equal irreps."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import torch

from nequip.o3 import Irrep, Irreps, join
from nequip.typing import Float, Int, Tensor


def _shared(irreps_in: Irreps, irreps_out: Irreps) -> list[tuple[Irrep, int, int]]:
    """Irreps that both have, with their channels, in the order of the input."""
    for irreps in (irreps_in, irreps_out):
        assert len({irrep for _, irrep in irreps}) == len(irreps), f"{irreps} is not merged"
    return [(irrep, mul, irreps_out.mul(irrep)) for mul, irrep in irreps_in if irrep in irreps_out]


def _map_blocks(
    x: Float[Tensor, "atom component_in"],
    irreps_in: Irreps,
    irreps_out: Irreps,
    apply: Callable[[Irrep, Tensor], Tensor],
) -> Float[Tensor, "atom component_out"]:
    """`apply` to the block of every irrep that both have; zeros for those that the input lacks."""
    blocks = irreps_in.split(x)
    return join(
        [
            apply(irrep, blocks[irrep]) if irrep in blocks else x.new_zeros(x.shape[0], mul * irrep.dim)
            for mul, irrep in irreps_out
        ]
    )


class IrrepsLinear(torch.nn.Module):
    """Per irrep `x @ W / √fan_in`, W [channels_in, channels_out] drawn from N(0, 1).

    Irreps of the output that the input lacks come out as zeros.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, dtype: torch.dtype):
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.weights = torch.nn.ParameterDict(
            # pairs, since ParameterDict sorts a plain dict by key
            (str(irrep), torch.randn(mul_in, mul_out, dtype=dtype))
            for irrep, mul_in, mul_out in _shared(irreps_in, irreps_out)
        )

    def forward(self, x: Float[Tensor, "atom component_in"]) -> Float[Tensor, "atom component_out"]:
        """Features of `irreps_out`."""

        def mix(irrep: Irrep, block: Tensor) -> Tensor:
            weight = self.weights[str(irrep)]
            fan_in, fan_out = weight.shape
            rows = block.reshape(-1, fan_in) @ (weight / sqrt(fan_in))
            return rows.reshape(x.shape[0], irrep.dim * fan_out)

        return _map_blocks(x, self.irreps_in, self.irreps_out, mix)


# Up to here one product over all types, zeros in the place of every other type, is faster than a
# matrix gathered for each atom: 30 times for 3 types and 2000 atoms.
MANY_TYPES = 16


class TypeLinear(torch.nn.Module):
    """A linear map for each type of atom, built from the embedding of the type.

    The fully connected product of the features with K scalars: `W_t = Σ_k A[t, k] W[:, k, :] / √(K
    fan_in)`, one matrix per type, so that the cost does not grow with K.
    """

    def __init__(self, irreps_in: Irreps, num_scalars: int, irreps_out: Irreps, dtype: torch.dtype):
        super().__init__()
        self.irreps_in, self.irreps_out = irreps_in, irreps_out
        self.weights = torch.nn.ParameterDict(
            (str(irrep), torch.randn(mul_in, num_scalars, mul_out, dtype=dtype))
            for irrep, mul_in, mul_out in _shared(irreps_in, irreps_out)
        )

    def forward(
        self,
        x: Float[Tensor, "atom component_in"],
        types: Int[Tensor, " atom"],
        embedding: Float[Tensor, "type scalar"],
    ) -> Float[Tensor, "atom component_out"]:
        """Features of `irreps_out`; `embedding` holds the scalars of each type."""
        chosen = types.unsqueeze(1) == torch.arange(len(embedding), device=types.device)

        def mix(irrep: Irrep, block: Tensor) -> Tensor:
            weight = self.weights[str(irrep)]
            fan_in, scalars, fan_out = weight.shape
            scaled = (weight / sqrt(fan_in * scalars)).transpose(0, 1).reshape(scalars, fan_in * fan_out)
            per_type = (embedding @ scaled).view(-1, fan_in, fan_out)
            features = block.unflatten(1, (irrep.dim, fan_in))
            if len(per_type) > MANY_TYPES:
                return torch.bmm(features, per_type.index_select(0, types)).flatten(1)
            placed = features.unsqueeze(2) * chosen.to(x.dtype)[:, None, :, None]
            return (placed.flatten(2) @ per_type.flatten(0, 1)).flatten(1)

        return _map_blocks(x, self.irreps_in, self.irreps_out, mix)
