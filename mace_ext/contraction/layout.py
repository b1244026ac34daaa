"""The polynomials of a contraction: as nested products, and as a list of monomials. See README.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mace_ext.contraction.basis import basis
from mace_ext.contraction.spec import SymmetricSpec

Monomial = tuple[int, ...]
Weights = dict[int, float]  # path: factor


class Factor(NamedTuple):
    """`coefficient + Σ A[variable] factor` over the parts; the coefficient is a number, None for zero."""

    coefficient: int | None
    parts: tuple[tuple[int, Factor], ...]

    @property
    def is_number(self) -> bool:
        return not self.parts


class Layout(NamedTuple):
    """A polynomial for each component of the output, and what their coefficients are made of."""

    polynomials: tuple[Factor, ...]
    coefficients: tuple[Weights, ...]


class Terms(NamedTuple):
    """The monomials of all components of the output, one component after the other.

    Every monomial has as many variables as the correlation: where it needs fewer, others are ONE, whose
    number is that of the components of the features.
    """

    variables: NDArray[np.int64]  # [term, factor]
    component: NDArray[np.int64]  # [term]
    weights: NDArray[np.float64]  # [term, path]: the coefficient of a term is this times W
    component_ptr: NDArray[np.int64]  # where the terms of each component start
    # The same by variable: each factor of each term, its term, and the other factors.
    variable_ptr: NDArray[np.int64]
    term: NDArray[np.int64]  # [entry]
    others: NDArray[np.int64]  # [entry, factor]


@cache
def terms(spec: SymmetricSpec) -> Terms:
    """As arrays; do not write to them."""
    one = spec.irreps_in.dim // spec.channels
    found = [
        ((*monomial, *(one,) * (spec.correlation - len(monomial))), component, weights)
        for component, monomials in enumerate(_monomials(spec))
        for monomial, weights in sorted(monomials.items())
    ]
    table = np.zeros((len(found), len(spec.paths)))
    for row, (_, _, weights) in zip(table, found, strict=True):
        row[list(weights)] = list(weights.values())
    variables = np.array([factors for factors, _, _ in found])
    component = np.array([component for _, component, _ in found])
    entries = sorted(
        (variable, number, factors[:place] + factors[place + 1 :])
        for number, (factors, _, _) in enumerate(found)
        for place, variable in enumerate(factors)
        if variable != one
    )
    return Terms(
        variables,
        component,
        table,
        np.searchsorted(component, np.arange(spec.irreps_out.dim // spec.channels + 1)),
        np.searchsorted([variable for variable, _, _ in entries], np.arange(one + 1)),
        np.array([number for _, number, _ in entries]),
        np.array([others for _, _, others in entries]).reshape(len(entries), spec.correlation - 1),
    )


@cache
def layout(spec: SymmetricSpec) -> Layout:
    """Nested so that coefficients are read in the order in which they are numbered."""
    coefficients: list[Weights] = []
    polynomials = [_nest(monomials, coefficients) for monomials in _monomials(spec)]
    return Layout(tuple(polynomials), tuple(coefficients))


def _monomials(spec: SymmetricSpec) -> list[dict[Monomial, Weights]]:
    """Of each output component: monomials of all degrees, with what multiplies the weights of paths."""
    components: list[dict[Monomial, Weights]] = []
    path = 0
    for _, irrep in spec.irreps_out:
        block: list[dict[Monomial, Weights]] = [defaultdict(dict) for _ in range(irrep.dim)]
        for order in range(1, spec.correlation + 1):
            monomials, coefficients = basis(spec.irreps_in, irrep, order)
            for table in coefficients:
                for component, row in zip(block, table, strict=True):
                    for term in row.nonzero()[0]:
                        component[tuple(monomials[term].tolist())][path] = float(row[term])
                path += 1
        components += block
    return components


def _nest(monomials: dict[Monomial, Weights], coefficients: list[Weights]) -> Factor:
    """Take out the variable that most monomials have, then the next of those that are left (Horner)."""
    number: int | None = None
    if () in monomials:
        number = len(coefficients)
        coefficients.append(monomials[()])
    left = {monomial: weights for monomial, weights in monomials.items() if monomial}
    parts: list[tuple[int, Factor]] = []
    while left:
        counts = Counter(variable for monomial in left for variable in set(monomial))
        chosen = min(counts, key=lambda variable: (-counts[variable], variable))
        inner = {_without(m, chosen): weights for m, weights in left.items() if chosen in m}
        parts.append((chosen, _nest(inner, coefficients)))
        left = {m: weights for m, weights in left.items() if chosen not in m}
    return Factor(number, tuple(parts))


def _without(monomial: Monomial, variable: int) -> Monomial:
    place = monomial.index(variable)
    return monomial[:place] + monomial[place + 1 :]
