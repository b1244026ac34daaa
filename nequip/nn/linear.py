"""Linear maps that mix channels of equal irreps."""

from __future__ import annotations

from itertools import groupby
from math import sqrt

import torch

from nequip.kernels.backend import Backend
from nequip.kernels.linear import LinearSpec, map_irreps
from nequip.o3 import Irrep, Irreps
from nequip.typing import Float, Int, Tensor

EVEN = Irrep(0, 1)


class IrrepsLinear(torch.nn.Module):
    """Per irrep `x @ W / √fan_in`, W [channels_in, channels_out] drawn from N(0, 1).

    Irreps of the output that the input lacks come out as zeros. With `bias`, numbers that start from zero
    are added to the even scalars.
    """

    bias: Tensor | None

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_out: Irreps,
        dtype: torch.dtype,
        backend: Backend = "auto",
        *,
        bias: bool = False,
    ):
        super().__init__()
        self.spec = LinearSpec(irreps_in, irreps_out)
        self.backend: Backend = backend
        self.weights = torch.nn.ParameterDict(
            # pairs, since ParameterDict sorts a plain dict by key
            (str(matrix.irrep), torch.randn(matrix.fan_in, matrix.fan_out, dtype=dtype))
            for matrix in self.spec.matrices
        )
        scalars = irreps_out.mul(EVEN)
        bias_of_scalars = torch.nn.Parameter(torch.zeros(scalars, dtype=dtype)) if bias and scalars else None
        self.register_parameter("bias", bias_of_scalars)

    def forward(self, x: Float[Tensor, "atom component_in"]) -> Float[Tensor, "atom component_out"]:
        """Features of `irreps_out`."""
        weight = [x.new_empty(1, 0), *(matrices.reshape(1, -1) for matrices in _stacked(self.weights))]
        out = map_irreps(x, torch.cat(weight, dim=1), None, spec=self.spec, backend=self.backend)
        return out if self.bias is None else out + self._bias_row(self.bias)

    def _bias_row(self, bias: Float[Tensor, " channel"]) -> Float[Tensor, "1 component_out"]:
        """The bias in the columns of even scalars, zeros elsewhere."""
        columns = [(block.dim, block.irrep == EVEN) for block in self.spec.irreps_out.blocks()]
        return torch.cat([bias if even else bias.new_zeros(dim) for dim, even in columns]).unsqueeze(0)


class TypeLinear(torch.nn.Module):
    """A linear map for each type of atom, built from the embedding of the type.

    The fully connected product of the features with K scalars: `W_t = Σ_k A[t, k] W[:, k, :] / √(K
    fan_in)`, one matrix per type, so that the cost does not grow with K.
    """

    def __init__(
        self,
        irreps_in: Irreps,
        num_scalars: int,
        irreps_out: Irreps,
        dtype: torch.dtype,
        backend: Backend = "auto",
    ):
        super().__init__()
        self.spec = LinearSpec(irreps_in, irreps_out)
        self.backend: Backend = backend
        self.scale = 1 / sqrt(num_scalars)
        self.weights = torch.nn.ParameterDict(
            (str(matrix.irrep), torch.randn(matrix.fan_in, num_scalars, matrix.fan_out, dtype=dtype))
            for matrix in self.spec.matrices
        )

    def forward(
        self,
        x: Float[Tensor, "atom component_in"],
        types: Int[Tensor, " atom"],
        embedding: Float[Tensor, "type scalar"],
    ) -> Float[Tensor, "atom component_out"]:
        """Features of `irreps_out`; `embedding` holds the scalars of each type."""
        scaled = embedding * self.scale
        per_type = [torch.matmul(scaled, weights).transpose(0, 1) for weights in _stacked(self.weights)]
        weight = [x.new_empty(len(embedding), 0)]
        weight += [matrices.reshape(len(embedding), -1) for matrices in per_type]
        return map_irreps(x, torch.cat(weight, dim=1), types, spec=self.spec, backend=self.backend)


class ElementLinear(torch.nn.Module):
    """`x @ W_t / √(fan_in Z)` per irrep, a matrix for each of Z types of atom, drawn from N(0, 1)."""

    def __init__(
        self,
        num_types: int,
        irreps_in: Irreps,
        irreps_out: Irreps,
        dtype: torch.dtype,
        backend: Backend = "auto",
    ):
        super().__init__()
        self.spec = LinearSpec(irreps_in, irreps_out)
        self.backend: Backend = backend
        self.scale = 1 / sqrt(num_types)
        self.weights = torch.nn.ParameterDict(
            (str(matrix.irrep), torch.randn(num_types, matrix.fan_in, matrix.fan_out, dtype=dtype))
            for matrix in self.spec.matrices
        )

    def forward(
        self, x: Float[Tensor, "atom component_in"], types: Int[Tensor, " atom"]
    ) -> Float[Tensor, "atom component_out"]:
        """Features of `irreps_out`; zeros for those that the input lacks."""
        matrices = [weight.flatten(1) for weight in self.weights.values()]
        weight = matrices[0] if len(matrices) == 1 else torch.cat(matrices, dim=1)
        # the scale behind the map: there may be more elements than atoms
        return map_irreps(x, weight, types, spec=self.spec, backend=self.backend) * self.scale


def _stacked(weights: torch.nn.ParameterDict) -> list[Float[Tensor, "fan_in ... fan_out"]]:
    """Weights in their order, those of equal shape that follow each other as one: fewer operations."""
    return [
        torch.cat(list(equal)) for _, equal in groupby(weights.values(), key=lambda weight: weight.shape[1:])
    ]
