"""Networks of scalars."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import log, sqrt
from typing import Literal

import torch

from nequip.typing import Float, Tensor

Nonlinearity = Literal["silu", "mish", "gelu", "shifted_softplus", "relu", "elu", "tanh", "sigmoid", "abs"]


def shifted_softplus(x: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """`log(1 + eˣ) - log 2`, which is 0 at 0."""
    return torch.nn.functional.softplus(x) - log(2.0)


NONLINEARITIES: dict[Nonlinearity, Callable[[Tensor], Tensor]] = {
    "silu": torch.nn.functional.silu,
    "mish": torch.nn.functional.mish,
    "gelu": torch.nn.functional.gelu,
    "shifted_softplus": shifted_softplus,
    "relu": torch.nn.functional.relu,
    "elu": torch.nn.functional.elu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "abs": torch.abs,
}


class ScalarMLP(torch.nn.Module):
    """`y = x @ (W α)` per layer, a nonlinearity between (None: a chain of linear maps), no bias.

    W is [in, out], drawn from U(-√3, √3); α = gain/√in with gain 1 for the first layer and √2 after
    a nonlinearity, so that activations keep their order of magnitude.
    """

    def __init__(self, widths: Sequence[int], dtype: torch.dtype, nonlinearity: Nonlinearity | None = "silu"):
        super().__init__()
        self.activation = None if nonlinearity is None else NONLINEARITIES[nonlinearity]
        self.weights = torch.nn.ParameterList(
            torch.empty(fan_in, fan_out, dtype=dtype).uniform_(-sqrt(3), sqrt(3))
            for fan_in, fan_out in itertools.pairwise(widths)
        )

    def forward(self, x: Float[Tensor, "row in"]) -> Float[Tensor, "row out"]:
        """One row of outputs for each row of inputs."""
        for index, weight in enumerate(self.weights):
            gain = 1.0
            if index > 0 and self.activation is not None:
                x = self.activation(x)
                gain = sqrt(2)
            x = x @ (weight * (gain / sqrt(weight.shape[0])))
        return x
