"""Numbers that belong to a type of atom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from nequip.errors import ConfigError, did_you_mean
from nequip.typing import Float, Int, Tensor


def per_type_tensor(
    value: float | Mapping[str, float] | None, type_names: Sequence[str], *, default: float, key: str
) -> Float[Tensor, " type"]:
    """One number for all types, or one for each, as a float64 tensor; None gives `default`.

    Raises:
        ConfigError: for a type that is unknown or left out.
    """
    if value is None or not isinstance(value, Mapping):
        number = default if value is None else float(value)
        return torch.full((len(type_names),), number, dtype=torch.float64)
    for name in value:
        if name not in type_names:
            raise ConfigError(f"{key}: no type is called {name!r}{did_you_mean(name, type_names)}.")
    missing = [name for name in type_names if name not in value]
    if missing:
        raise ConfigError(f"{key}: no value for {', '.join(missing)}; give one for each type.")
    return torch.tensor([value[name] for name in type_names], dtype=torch.float64)


class ScaleShift(torch.nn.Module):
    """`E_i = scale[t_i] e_i + shift[t_i]`, in float64; with heads, of each head and type: [head, type]."""

    scales: Tensor
    shifts: Tensor

    def __init__(self, scales: Tensor, shifts: Tensor, trainable: tuple[bool, bool] = (False, False)):
        super().__init__()
        for name, value, train in zip(("scales", "shifts"), (scales, shifts), trainable, strict=True):
            if train:
                self.register_parameter(name, torch.nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(
        self,
        x: Float[Tensor, " atom"],
        types: Int[Tensor, " atom"],
        heads: Int[Tensor, " atom"] | None = None,
    ) -> Float[Tensor, " atom"]:
        place = (types,) if heads is None else (heads, types)
        return self.scales[place] * x.double() + self.shifts[place]
