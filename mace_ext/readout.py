"""From features to an energy for each head, up to scales and shifts."""

from __future__ import annotations

from math import sqrt
from typing import ClassVar

import torch

from nequip.model.axes import Axis
from nequip.nn.mlp import NONLINEARITIES, Nonlinearity
from nequip.o3 import split
from nequip.typing import Float, Tensor

# 1/√⟨f(x)²⟩ for normal x, by which MACE multiplies what comes out of an activation, as it samples it.
GAINS: dict[Nonlinearity, float] = {
    "silu": 1.6791767923989418,
    "tanh": 1.5937334472592695,
    "abs": 1.001110600838467,
}


class LinearReadout(torch.nn.Module):
    """`h₀ @ W / √C` of the C invariant features: an energy for each head."""

    axes: ClassVar[dict[str, Axis]] = {"weight": Axis("heads", 1)}

    def __init__(self, num_features: int, num_heads: int, dtype: torch.dtype):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(num_features, num_heads, dtype=dtype))

    def forward(self, h: Float[Tensor, "atom component"]) -> Float[Tensor, "atom head"]:
        """Of features that begin with the invariant ones."""
        channels = self.weight.shape[0]
        invariant, _ = split(h, [channels, h.shape[1] - channels])
        return invariant @ (self.weight / sqrt(channels))


class MLPReadout(torch.nn.Module):
    """`f(h @ W₁ / √C) · W₂ / √(heads · width)`: one hidden layer, whose neurons belong to one head each."""

    axes: ClassVar[dict[str, Axis]] = {"hidden": Axis("heads", 1), "weight": Axis("heads", 0, divided=True)}

    def __init__(
        self,
        num_features: int,
        width: int,
        num_heads: int,
        activation: Nonlinearity | None,
        dtype: torch.dtype,
    ):
        super().__init__()
        self.activation: Nonlinearity | None = activation
        # neurons head by head
        self.hidden = torch.nn.Parameter(torch.randn(num_features, num_heads * width, dtype=dtype))
        self.weight = torch.nn.Parameter(torch.randn(num_heads, width, dtype=dtype))

    def forward(self, h: Float[Tensor, "atom feature"]) -> Float[Tensor, "atom head"]:
        """Of the last layer's features, which are invariant."""
        neurons = h @ (self.hidden / sqrt(self.hidden.shape[0]))
        if self.activation is not None:
            neurons = NONLINEARITIES[self.activation](neurons) * GAINS[self.activation]
        weight = self.weight / sqrt(self.weight.numel())
        return (neurons.unflatten(1, weight.shape) * weight).sum(2)
