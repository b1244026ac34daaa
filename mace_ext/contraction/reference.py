"""The symmetric contraction in plain PyTorch."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import torch

from mace_ext.contraction.basis import basis
from mace_ext.contraction.spec import SymmetricSpec
from nequip.o3 import Irrep, join, split
from nequip.typing import Float, Int, Tensor

# Atoms taken at a time: their monomials should stay in a cache.
CHUNK = 16


class _Sum(NamedTuple):
    """The polynomials of one degree into one irrep."""

    irrep: Irrep
    factors: list[Int[Tensor, " term"]]
    coefficients: Float[Tensor, "path_component term"]


def contract_symmetric(
    x: Float[Tensor, "atom component_channel"],
    weight: Float[Tensor, "type path_channel"],
    types: Int[Tensor, " atom"],
    spec: SymmetricSpec,
) -> Float[Tensor, "atom component_out_channel"]:
    """All monomials, then their sums along the paths, then the weights; some atoms at a time.

    Splits, never slices: the gradient of a slice is a zero-padded copy of the whole.
    """
    sums = _sums(spec, x)
    features = x.unflatten(1, (spec.irreps_in.dim // spec.channels, spec.channels)).split(CHUNK)
    weights = weight.index_select(0, types).split(CHUNK)
    pieces = [_rows(*pair, sums, spec) for pair in zip(features, weights, strict=True)]
    return join(pieces, dim=0)


def _rows(
    x: Float[Tensor, "atom component channel"],
    weight: Float[Tensor, "atom path_channel"],
    sums: list[_Sum],
    spec: SymmetricSpec,
) -> Float[Tensor, "atom component_out_channel"]:
    paths = [each.coefficients.shape[0] // each.irrep.dim for each in sums]
    weights = split(weight, [count * spec.channels for count in paths])
    totals = {
        irrep: x.new_zeros(x.shape[0], irrep.dim, spec.channels) for _, irrep in spec.irreps_out
    }  # no path need lead to a block
    for (irrep, factors, coefficients), scale in zip(sums, weights, strict=True):
        monomials = reduce(torch.mul, [x.index_select(1, factor) for factor in factors])
        polynomials = torch.bmm(coefficients.expand(x.shape[0], -1, -1), monomials)
        scaled = polynomials.unflatten(1, (-1, irrep.dim)) * scale.unflatten(1, (-1, 1, spec.channels))
        totals[irrep] = totals[irrep] + scaled.sum(1)
    return join([total.flatten(1) for total in totals.values()])


def _sums(spec: SymmetricSpec, like: Tensor) -> list[_Sum]:
    """In the order of the weights."""
    sums: list[_Sum] = []
    for _, irrep in spec.irreps_out:
        for order in range(1, spec.correlation + 1):
            monomials, coefficients = basis(spec.irreps_in, irrep, order)
            if len(coefficients) > 0:
                factors = [torch.as_tensor(column.copy(), device=like.device) for column in monomials.T]
                table = torch.as_tensor(coefficients.reshape(-1, len(monomials)))
                sums.append(_Sum(irrep, factors, table.to(like)))
    return sums
