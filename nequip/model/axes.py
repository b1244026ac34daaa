"""What architectures say of their weights, so that they can be built again for other types and heads."""

from __future__ import annotations

from typing import Literal, NamedTuple

Over = Literal["types", "pairs", "heads"]


class Axis(NamedTuple):
    """An axis of a tensor with a slice for each type, each ordered pair of types (center first) or each head.

    The slice of one may be several rows that lie side by side, such as the neurons of one head.
    """

    over: Over
    dim: int = 0
    divided: bool = False  # by the square root of their number, when the model computes


# The state dict's key -> its axes that run over types or heads; what is not listed has none.
WeightAxes = dict[str, tuple[Axis, ...]]
TYPES: tuple[Axis, ...] = (Axis("types"),)
