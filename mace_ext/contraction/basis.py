"""The equivariant polynomials of a given degree: a minimal basis, each as sparse monomials.

A polynomial of degree ν into irrep L is a sum of products of one of degree ν - 1 with the variables
themselves, coupled to L. So products along all such couplings, in a fixed order, span the space; each is
kept if it is linearly independent of those kept before. Stored weights refer to this basis: it is made of
exact numbers, up to rounding, and the choice hangs on a gap of many orders of magnitude.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations_with_replacement, product
from math import factorial, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nequip.errors import CheckpointError
from nequip.o3 import Irrep, Irreps, wigner_3j_array

Array = NDArray[np.float64]

# What is left of a product beside those before it: 0.19 and more up to degree 4, or rounding (6e-15).
INDEPENDENT = 1e-6
# Coefficients that are zero by symmetry come out as rounding; the smallest others are near 0.01.
ZERO = 1e-11


class Basis(NamedTuple):
    """Polynomials `P[p, M](A) = Σ_t coefficients[p, M, t] Π_s A[monomials[t, s]]`.

    Monomials are ascending indices of components, counted through all irreps; each occurs once.
    As a symmetric tensor, `U[M, i1..iν]`, every polynomial has the squared norm 2L + 1.
    """

    monomials: NDArray[np.int64]
    coefficients: Array


@cache
def basis(irreps: Irreps, irrep: Irrep, order: int) -> Basis:
    """The polynomials of degree `order` from one copy of each of `irreps` into `irrep`.

    Do not write to the arrays.
    """
    polynomials = _polynomials(_single(irreps), irrep, order)
    used = np.flatnonzero(np.any(polynomials != 0, axis=(0, 1)))
    monomials = np.array(_monomials(_dim(irreps), order)).reshape(-1, order)
    return Basis(monomials[used], polynomials[:, :, used])


def project(stored: Array, irreps: Irreps, irrep: Irrep) -> Array:
    """Published coefficients in terms of `basis`: T such that `U[.., k] = Σ_p T[k, p] P_p` as polynomials.

    Published weights W[z, k, c] of the redundant columns k become `Σ_k W[z, k, c] T[k, p]`.

    Args:
        stored: `U[M, i1, .., iν, k]`; for scalars without the axis M. Not symmetric in i1..iν, but summed
            with a product of features that is.
        irreps: of the features, one copy of each counts.

    Raises:
        CheckpointError: for an array of another shape, or coefficients that are not equivariant.
    """
    if irrep.l == 0:
        stored = stored[np.newaxis]
    order, dim = stored.ndim - 2, _dim(irreps)
    if order < 1 or stored.shape[:-1] != (irrep.dim, *(dim,) * order):
        raise CheckpointError(
            f"the stored coefficients of a contraction of {irreps} to {irrep} have the shape {stored.shape}: "
            "the file is damaged, or of another model."
        )
    polynomials = _polynomials(_single(irreps), irrep, order)
    places = {monomial: n for n, monomial in enumerate(_monomials(dim, order))}
    columns = [places[_ascending(index)] for index in product(range(dim), repeat=order)]
    folded = np.zeros((len(places), irrep.dim, stored.shape[-1]))
    np.add.at(folded, columns, stored.reshape(irrep.dim, len(columns), -1).swapaxes(0, 1))
    target = folded.swapaxes(0, 1).reshape(-1, stored.shape[-1])
    known = polynomials.reshape(len(polynomials), irrep.dim * len(places)).T
    solution = np.linalg.lstsq(known, target, rcond=None)[0]
    allowed = 1e-5 if stored.dtype == np.float32 else 1e-10
    if np.abs(known @ solution - target).max(initial=0) > allowed * max(1.0, np.abs(target).max(initial=0)):
        raise CheckpointError(
            f"the stored coefficients of degree {order} of a contraction of {irreps} to {irrep} are not "
            "equivariant in our basis: the file is damaged, or was made with other conventions."
        )
    return solution.T


def _single(irreps: Irreps) -> tuple[Irrep, ...]:
    return tuple(irrep for _, irrep in irreps)


def _dim(irreps: Irreps) -> int:
    return sum(irrep.dim for _, irrep in irreps)


def _ascending(index: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(index))


@cache
def _polynomials(irreps: tuple[Irrep, ...], irrep: Irrep, order: int) -> Array:
    """[polynomial, component, monomial]: the basis with every monomial of the degree."""
    num_monomials = len(_monomials(sum(each.dim for each in irreps), order))
    kept: list[Array] = []
    directions = np.zeros((0, num_monomials))
    weights = _squared_norms(sum(each.dim for each in irreps), order)
    for candidate in _products(irreps, irrep, order):
        candidate *= np.sqrt(irrep.dim / np.sum(candidate**2 * weights))
        # Schur: equivariant maps are independent where one component of theirs is.
        left = candidate[irrep.l] * np.sqrt(weights)
        for _ in range(2):  # once more, for what rounding left
            left = left - (directions @ left) @ directions
        size = np.linalg.norm(left)
        if size > INDEPENDENT:
            kept.append(np.where(np.abs(candidate) < ZERO, 0.0, candidate))
            directions = np.concatenate([directions, left[np.newaxis] / size])
    return np.array(kept).reshape(len(kept), irrep.dim, num_monomials)


def _products(irreps: tuple[Irrep, ...], irrep: Irrep, order: int) -> list[Array]:
    """Every polynomial of one degree less, times every block of variables, that couples to `irrep`."""
    starts = np.cumsum([0, *(each.dim for each in irreps)])
    if order == 1:
        found = [start for start, each in zip(starts, irreps, strict=False) if each == irrep]
        return [np.eye(irrep.dim, starts[-1], start) for start in found]
    raised = _raised(int(starts[-1]), order)
    products: list[Array] = []
    for left in sorted({left for each in irreps for left in irrep.product(each)}):
        if left.l > (order - 1) * max(each.l for each in irreps):
            continue
        for factor in _polynomials(irreps, left, order - 1):
            for start, each in zip(starts, irreps, strict=False):
                if irrep not in left.product(each):
                    continue
                coupling = wigner_3j_array(left.l, each.l, irrep.l)
                total = np.zeros((irrep.dim, int(raised.max()) + 1))
                for m in range(each.dim):
                    total[:, raised[start + m]] += coupling[:, m].T @ factor
                if np.abs(total).max() > ZERO:  # antisymmetric couplings vanish
                    products.append(total)
    return products


@cache
def _monomials(dim: int, order: int) -> list[tuple[int, ...]]:
    return list(combinations_with_replacement(range(dim), order))


@cache
def _raised(dim: int, order: int) -> NDArray[np.int64]:
    """[i, t]: the number of the monomial that is variable i times monomial t of one degree less."""
    places = {monomial: n for n, monomial in enumerate(_monomials(dim, order))}
    lower = _monomials(dim, order - 1)
    return np.array([[places[_ascending((*t, i))] for t in lower] for i in range(dim)])


@cache
def _squared_norms(dim: int, order: int) -> Array:
    """Of each monomial as a symmetric tensor: one over the number of ways to order its factors."""
    return np.array(
        [prod(factorial(t.count(i)) for i in set(t)) / factorial(order) for t in _monomials(dim, order)]
    )
