"""Numbers a + b ε₁ + c ε₂ + d ε₁ε₂ + ... with ε² = 0, for derivatives along directions.

A function of z + Σ v_i ε_i has as the coefficient of ε₁ ... ε_k, here called its last, the derivative along
v_1, ..., v_k. A number is a dictionary: bit i of a key says whether ε_(i+1) is in it; what is absent is zero.
Coefficients are anything that can be added and multiplied: arrays, or text that stands for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TypeVar

Coefficient = TypeVar("Coefficient")
Number = dict[int, Coefficient]
Operation = Callable[[Coefficient, Coefficient], Coefficient]


def product(
    numbers: Sequence[Number[Coefficient]],
    times: Operation[Coefficient],
    plus: Operation[Coefficient],
) -> Number[Coefficient]:
    """The product of all; without directions it is a product of points."""

    def multiply(left: Number[Coefficient], right: Number[Coefficient]) -> Number[Coefficient]:
        result: Number[Coefficient] = {}
        for s, a in left.items():
            for t, b in right.items():
                if s & t == 0:
                    result[s | t] = plus(result[s | t], times(a, b)) if s | t in result else times(a, b)
        return result

    return reduce(multiply, numbers)
