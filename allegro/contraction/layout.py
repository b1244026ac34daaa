"""The terms of a contraction, number by number: what source is made from."""

from __future__ import annotations

from functools import cache
from math import sqrt
from typing import NamedTuple

import numpy as np

from allegro.contraction.spec import ContractionSpec
from nequip.o3 import Irreps, wigner_3j_array


class Term(NamedTuple):
    """`V'[k] += W[path] · value · V[i] · env[j]`; components are counted through all irreps."""

    path: int
    i: int
    j: int
    k: int
    value: float


@cache
def terms(spec: ContractionSpec) -> tuple[Term, ...]:
    """Every term that is not zero, path after path."""
    starts = [first_components(irreps) for irreps in (spec.irreps_in, spec.irreps_env, spec.irreps_out)]
    found: list[Term] = []
    for p, path in enumerate(spec.paths):
        left, right, out = (
            irreps.terms[block][1].l
            for irreps, block in zip((spec.irreps_in, spec.irreps_env, spec.irreps_out), path, strict=True)
        )
        coupling = sqrt(2 * out + 1) * wigner_3j_array(left, right, out)
        for place in np.argwhere(coupling):
            i, j, k = (start[block] + int(n) for start, block, n in zip(starts, path, place, strict=True))
            found.append(Term(p, i, j, k, float(coupling[tuple(place)])))
    return tuple(found)


def first_components(irreps: Irreps) -> list[int]:
    """Where each block begins, counted in components, and after them all how many there are."""
    starts = [0]
    for _, irrep in irreps:
        starts.append(starts[-1] + irrep.dim)
    return starts
