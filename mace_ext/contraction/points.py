"""Where a contraction is differentiated, and the directions along which it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from nequip.typing import Float, Tensor


class Point(NamedTuple):
    """The arguments of `Φ(g, A, W)`, or a direction of all three; None stands for zero."""

    grad: Float[Tensor, "atom component_out_channel"] | None
    x: Float[Tensor, "atom component_channel"] | None
    weight: Float[Tensor, "type path_channel"] | None


def stack(directions: Sequence[Point], at: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """The directions as three arrays [direction, row, column].

    Most directions do not touch the weights: where none does, the last array has no rows.

    Args:
        at: the point, with the shapes of the directions.
    """
    grads, xs, weights = zip(*directions, strict=True)
    if all(weight is None for weight in weights):
        none = at[2].new_empty(len(directions), 0, at[2].shape[1])
        return _stack(grads, at[0]), _stack(xs, at[1]), none
    return _stack(grads, at[0]), _stack(xs, at[1]), _stack(weights, at[2])


def unstack(along_grad: Tensor, along_x: Tensor, along_weight: Tensor) -> list[Point]:
    """The inverse of `stack`."""
    weights = along_weight.unbind(0) if along_weight.shape[1] > 0 else [None] * len(along_x)
    return [Point(*parts) for parts in zip(along_grad.unbind(0), along_x.unbind(0), weights, strict=True)]


def _stack(parts: Sequence[Tensor | None], like: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(like) if part is None else part for part in parts])
