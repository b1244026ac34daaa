"""Radial networks as tables of splines, as fine as a given error asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf, nextafter

import torch

from nequip.errors import ModelError
from nequip.kernels.tensor_product.tabulated import Piece, WeightTable, evaluate
from nequip.typing import Float, Tensor

RadialFunction = Callable[[Float[Tensor, " row"]], Float[Tensor, "row weight"]]

# Below this fraction of the cutoff the first polynomial goes on: no two atoms come so near.
START = 0.05
# Networks see 1/x: what they make of it bends ever more towards small x, so each octave has as many knots.
OCTAVES = (0.1, 0.2, 0.4)
MOST_INTERVALS = 2048


def tabulate(
    function: RadialFunction, tolerance: float, kinks: Sequence[float] = ()
) -> tuple[WeightTable, float]:
    """A table of `function` over x in [0.05, 1], in float64, and its largest error between the knots.

    The number of intervals doubles until the error of every value is below `tolerance`, relative to the
    largest value in the piece, and that of every slope below 10 `tolerance`, relative to the largest slope.

    Args:
        function: of x = r / r_c, computed in float64; smooth but at `kinks`, where it may have another
            second derivative on each side, the one above at the kink itself.

    Raises:
        ModelError: for a function that 2048 intervals cannot follow.
    """
    intervals, error = 32, inf
    while intervals <= MOST_INTERVALS:
        table = _table(function, intervals, kinks)
        error = _error(function, table)
        if error < tolerance:
            return table, error
        intervals *= 2
    raise ModelError(
        f"radial tables reach an error of {error:.1g} with {MOST_INTERVALS} intervals, not {tolerance:.1g}: "
        "ask for less, or keep the network."
    )


def _table(function: RadialFunction, intervals: int, kinks: Sequence[float]) -> WeightTable:
    """As many intervals in each piece, between two kinks or over an octave."""
    pieces: list[Piece] = []
    knots: list[Tensor] = []
    for start, end in pairwise(sorted({START, *OCTAVES, *(k for k in kinks if START < k < 1), 1.0})):
        step = (end - start) / intervals
        x = start + step * torch.arange(intervals + 1, dtype=torch.float64)
        if end < 1:
            x[-1] = nextafter(end, 0.0)  # the side of this piece
        slope = _differentiated(function)
        values, slopes, curvatures = (f(x).detach() for f in (function, slope, _differentiated(slope)))
        knots.append(torch.stack([values, step * slopes, step**2 * curvatures], dim=1))
        pieces.append(Piece(start, step, len(pieces) * (intervals + 1)))
    return WeightTable(torch.cat(knots), tuple(pieces))


def _differentiated(function: RadialFunction) -> RadialFunction:
    """The derivative by x of all columns: `v · f'(x)`, one backward pass, has the gradient f' by v."""

    def derivative(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            values = function(x)
            v = torch.zeros_like(values, requires_grad=True)
            (product,) = torch.autograd.grad(values, x, v, create_graph=True)
            return torch.autograd.grad(product, v, torch.ones_like(product), create_graph=True)[0]

    return derivative


def _error(function: RadialFunction, table: WeightTable) -> float:
    """The larger of the errors of value and (over 10) derivative, three points in each interval.

    Relative to the largest in the piece: towards small x, where no atoms are, slopes can be huge.
    """
    intervals = table.knots.shape[0] // len(table.pieces) - 1
    between = torch.arange(intervals, dtype=torch.float64).repeat_interleave(3) + torch.tensor(
        [0.2, 0.5, 0.8], dtype=torch.float64
    ).repeat(intervals)
    errors: list[float] = []
    for start, step, first in table.pieces:
        x = start + step * between
        exact = torch.stack([function(x).detach(), _differentiated(function)(x).detach()])
        value, slope = (evaluate(table.knots, first + between, order) for order in (0, 1))
        difference = torch.stack([value.double(), slope / step]) - exact
        scales = exact.abs().amax(dim=(1, 2)).clamp(min=1e-300)
        of_value, of_slope = (difference.abs().amax(dim=(1, 2)) / scales).tolist()
        errors += [of_value, of_slope / 10]
    return max(errors)
