"""Radial networks as tables of splines, as fine as a given error asks for."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import torch

from nequip.errors import ModelError
from nequip.kernels.tensor_product.tabulated import WeightTable, evaluate
from nequip.typing import Float, Tensor

RadialFunction = Callable[[Float[Tensor, " row"]], Float[Tensor, "row weight"]]

# Below this fraction of the cutoff the first polynomial goes on: no two atoms come so near.
START = 0.05
MOST_INTERVALS = 2048


def tabulate(function: RadialFunction, tolerance: float) -> tuple[WeightTable, float]:
    """A table of `function` over x in [0.05, 1], in float64, and its largest error between the knots.

    The number of intervals doubles until the error of every value is below `tolerance`, relative to the
    largest value, and that of every slope below 30 `tolerance`, relative to the largest slope.

    Args:
        function: of x = r / r_c, computed in float64.

    Raises:
        ModelError: for a function that 2048 intervals cannot follow.
    """
    intervals, error = 32, inf
    while intervals <= MOST_INTERVALS:
        table = _table(function, intervals)
        error = _error(function, table)
        if error < tolerance:
            return table, error
        intervals *= 2
    raise ModelError(
        f"radial tables reach an error of {error:.1g} with {MOST_INTERVALS} intervals, not {tolerance:.1g}: "
        "ask for less, or keep the network."
    )


def _table(function: RadialFunction, intervals: int) -> WeightTable:
    step = (1 - START) / intervals
    x = START + step * torch.arange(intervals + 1, dtype=torch.float64)
    values, slopes, curvatures = _derivatives(function, x)
    knots = torch.stack([values, step * slopes, step**2 * curvatures], dim=1)
    return WeightTable(knots, START, step)


def _derivatives(function: RadialFunction, x: Float[Tensor, " knot"]) -> tuple[Tensor, Tensor, Tensor]:
    """Values, first and second derivatives by x."""
    slope = _differentiated(function)
    return function(x).detach(), slope(x).detach(), _differentiated(slope)(x).detach()


def _differentiated(function: RadialFunction) -> RadialFunction:
    """All columns at once: `v · f'(x)`, one backward pass, is linear in v, and its gradient by v is f'."""

    def derivative(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            values = function(x)
            v = torch.zeros_like(values, requires_grad=True)
            (product,) = torch.autograd.grad(values, x, v, create_graph=True)
            return torch.autograd.grad(product, v, torch.ones_like(product), create_graph=True)[0]

    return derivative


def _error(function: RadialFunction, table: WeightTable) -> float:
    """The larger of the errors of value and (over 30) derivative, three points in each interval."""
    intervals = table.knots.shape[0] - 1
    place = torch.arange(intervals, dtype=torch.float64).repeat_interleave(3) + torch.tensor(
        [0.2, 0.5, 0.8], dtype=torch.float64
    ).repeat(intervals)
    values, slopes, _ = _derivatives(function, table.start + table.step * place)
    errors: list[float] = []
    for derivative, exact in ((0, values), (1, table.step * slopes)):
        scale = exact.abs().max().clamp(min=1e-300)
        difference = (evaluate(table.knots, place, derivative).double() - exact).abs().max() / scale
        errors.append(float(difference))
    return max(errors[0], errors[1] / 30)
