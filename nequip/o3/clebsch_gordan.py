"""Wigner 3j tensors in the real basis of the spherical harmonics here."""

from __future__ import annotations

from functools import cache
from math import factorial, sqrt

import numpy as np
import torch
from numpy.typing import NDArray

from nequip.typing import Float, Tensor


def wigner_3j(l1: int, l2: int, l3: int) -> Float[Tensor, "m1 m2 m3"]:
    """The invariant tensor of three irreps, float64, of Frobenius norm 1.

    `Σ C_ijk D1_ia D2_jb D3_kc = C_abc` for every rotation. The sign is that of the Condon-Shortley
    Clebsch-Gordan coefficients taken to the real basis with phases (-i)^l; published weights of
    NequIP, Allegro and MACE assume it (tested against e3nn 0.6).

    Returns zeros where |l1 - l2| <= l3 <= l1 + l2 does not hold.
    """
    return torch.from_numpy(wigner_3j_array(l1, l2, l3).copy())


@cache
def wigner_3j_array(l1: int, l2: int, l3: int) -> NDArray[np.float64]:
    """The same as an array, computed once; do not write to it.

    Constants are kept as arrays: a tensor made while torch traces is a fake one, and must not outlive it.
    """
    if not abs(l1 - l2) <= l3 <= l1 + l2:
        return np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    complex_basis = np.zeros((2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            complex_basis[l1 + m1, l2 + m2, l3 + m1 + m2] = _clebsch_gordan(l1, m1, l2, m2, l3)
    to_real = [_real_from_complex(degree) for degree in (l1, l2, l3)]
    real = np.einsum("abc,ai,bj,ck->ijk", complex_basis, to_real[0], to_real[1], to_real[2].conj())
    assert np.abs(real.imag).max() < 1e-12
    return real.real / np.linalg.norm(real.real)


def _clebsch_gordan(l1: int, m1: int, l2: int, m2: int, l3: int) -> float:
    """⟨l1 m1 l2 m2 | l3 m1+m2⟩ by Racah's formula (Edmonds, eq. 3.6.11); exact up to the last division."""
    m3 = m1 + m2
    prefactor = (
        (2 * l3 + 1)
        * factorial(l3 + l1 - l2)
        * factorial(l3 - l1 + l2)
        * factorial(l1 + l2 - l3)
        * factorial(l3 + m3)
        * factorial(l3 - m3)
    )
    denominator = (
        factorial(l1 + l2 + l3 + 1)
        * factorial(l1 - m1)
        * factorial(l1 + m1)
        * factorial(l2 - m2)
        * factorial(l2 + m2)
    )
    total = 0.0
    for v in range(max(0, -l1 + l2 + m3, -l1 + m1), min(l2 + l3 + m1, l3 - l1 + l2, l3 + m3) + 1):
        term = factorial(l2 + l3 + m1 - v) * factorial(l1 - m1 + v)
        term /= factorial(v) * factorial(l3 - l1 + l2 - v) * factorial(l3 + m3 - v)
        total += (-1) ** (v + l2 + m2) * term / factorial(v + l1 - l2 - m3)
    return sqrt(prefactor / denominator) * total


def _real_from_complex(degree: int) -> NDArray[np.complex128]:
    """Columns: real harmonics -l..l (sine, 0, cosine) in terms of complex ones, with phase (-i)^l."""
    basis = np.zeros((2 * degree + 1, 2 * degree + 1), dtype=np.complex128)
    basis[degree, degree] = 1
    for m in range(1, degree + 1):
        sign = (-1) ** m
        basis[degree - m, degree + m] = 1 / sqrt(2)
        basis[degree - m, degree - m] = -1j / sqrt(2)
        basis[degree + m, degree + m] = sign / sqrt(2)
        basis[degree + m, degree - m] = 1j * sign / sqrt(2)
    return (-1j) ** degree * basis
