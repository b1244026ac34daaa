"""The contraction and all its derivatives as formulas of PyTorch, without autograd. See README.md.

They are what torch.compile is given. With `Φ(g, A, W) = Σ g · B(A, W)` and k directions, `by_grad`,
`by_features` and `by_weight` are the gradient of `D^kΦ` by g, A and W; `by_grad` along none is B itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add, mul

import numpy as np
import torch
from numpy.typing import NDArray

from mace_ext.contraction import dual_numbers
from mace_ext.contraction.layout import terms
from mace_ext.contraction.points import Point
from mace_ext.contraction.spec import SymmetricSpec
from nequip.o3 import Irreps
from nequip.typing import Float, Int, Tensor

Number = dual_numbers.Number[Tensor]


class Formula:
    """The formulas of one specification: all monomials at once, then sums of them by matrices."""

    def __init__(self, spec: SymmetricSpec, dtype: torch.dtype, device: torch.device):
        self.channels, self.num_paths = spec.channels, len(spec.paths)
        found = terms(spec)
        entries = np.repeat(np.arange(len(found.variable_ptr) - 1), np.diff(found.variable_ptr))
        self.weights = torch.tensor(found.weights, dtype=dtype, device=device)
        self.onto_components = _one_hot(found.component, spec.irreps_out, spec.channels).to(self.weights)
        self.onto_variables = _one_hot(entries, spec.irreps_in, spec.channels).to(self.weights)
        self.component = torch.tensor(found.component, device=device)
        self.factors = torch.tensor(found.variables, device=device).unbind(1)
        self.term = torch.tensor(found.term, device=device)
        self.others = torch.tensor(found.others, device=device).unbind(1)

    def by_grad(
        self, points: Sequence[Point], types: Int[Tensor, " atom"]
    ) -> Float[Tensor, "atom component_out_channel"]:
        """`Σ_t c_t Π A` over the terms of each component."""
        features = self._features(points)
        numbers = [self._coefficients(points, types), *(_pick(features, f) for f in self.factors)]
        return _times(self.onto_components, _last(numbers, len(points) - 1)).flatten(1)

    def by_features(
        self, points: Sequence[Point], types: Int[Tensor, " atom"]
    ) -> Float[Tensor, "atom component_channel"]:
        """`Σ_t g c_t Π' A`, where Π' leaves one variable out, over the terms that have it."""
        features, component = self._features(points), self.component[self.term]
        numbers = [_pick(self._coefficients(points, types), self.term), _pick(self._grads(points), component)]
        numbers += [_pick(features, factor) for factor in self.others]
        return _times(self.onto_variables, _last(numbers, len(points) - 1)).flatten(1)

    def by_weight(
        self, points: Sequence[Point], types: Int[Tensor, " atom"]
    ) -> Float[Tensor, "type path_channel"]:
        """`Σ_t g Π A`, times what multiplies the weight of each path, over the atoms of a type."""
        features, weight = self._features(points), points[0].weight
        assert weight is not None
        numbers = [_pick(self._grads(points), self.component)]
        numbers += [_pick(features, factor) for factor in self.factors]
        monomials = _last(numbers, len(points) - 1)
        zeros = weight.new_zeros(weight.shape[0], *monomials.shape[1:])
        summed = zeros.index_add(0, types, monomials)
        return _times(self.weights.t(), summed).flatten(1)

    def _features(self, points: Sequence[Point]) -> Number:
        """[atom, component and ONE, channel]; along directions ONE does not change."""
        number: Number = {}
        for key, x in _given([point.x for point in points]).items():
            rows = x.unflatten(1, (-1, self.channels))
            one = torch.ones_like(rows[:, :1]) if key == 0 else torch.zeros_like(rows[:, :1])
            number[key] = torch.cat([rows, one], 1)
        return number

    def _coefficients(self, points: Sequence[Point], types: Int[Tensor, " atom"]) -> Number:
        """[atom, term, channel]."""
        number: Number = {}
        for key, weight in _given([point.weight for point in points]).items():
            product = _times(self.weights, weight.unflatten(1, (self.num_paths, self.channels)))
            number[key] = product.index_select(0, types)
        return number

    def _grads(self, points: Sequence[Point]) -> Number:
        """[atom, component, channel]."""
        grads = _given([point.grad for point in points])
        return {key: grad.unflatten(1, (-1, self.channels)) for key, grad in grads.items()}


def _given(values: Sequence[Tensor | None]) -> Number:
    """The point and directions as one number, without those that are zero."""
    return {(1 << n) >> 1: value for n, value in enumerate(values) if value is not None}


def _last(numbers: Sequence[Number], directions: int) -> Tensor:
    number = dual_numbers.product(numbers, mul, add)
    shape = next(iter(number.values()))
    return number.get((1 << directions) - 1, torch.zeros_like(shape))


def _pick(number: Number, index: Int[Tensor, " term"]) -> Number:
    """Rows of the second axis."""
    return {key: value.index_select(1, index) for key, value in number.items()}


def _times(matrix: Float[Tensor, "k j"], x: Float[Tensor, "row j channel"]) -> Float[Tensor, "row k channel"]:
    return torch.bmm(matrix.expand(x.shape[0], -1, -1), x)


def _one_hot(places: NDArray[np.int64], irreps: Irreps, channels: int) -> Float[Tensor, "component term"]:
    """What sums terms onto the components that they belong to."""
    return torch.from_numpy(np.arange(irreps.dim // channels)[:, np.newaxis] == places)
