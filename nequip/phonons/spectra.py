"""Infrared and Raman spectra of a molecule: how strongly light sees each of its vibrations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.constants import Avogadro, atomic_mass, c, elementary_charge, epsilon_0, kilo

from nequip.data.frame import FloatArray
from nequip.phonons.vibrations import Vibrations
from nequip.units import COULOMB_CONSTANT

# e²/amu in km/mol: N_A π / (3 c² 4πε₀), the integrated absorption of a harmonic mode with |∂µ/∂Q|² of one.
KM_PER_MOL = Avogadro / (12 * epsilon_0 * c**2) * elementary_charge**2 / atomic_mass / kilo


@dataclass(frozen=True)
class Spectra:
    """Of the modes of `Vibrations`, in their order."""

    frequencies: FloatArray  # [mode] cm⁻¹; unstable ones negative
    infrared: FloatArray  # [mode] km/mol
    raman: FloatArray  # [mode] activity, Å⁴/amu


def spectra(vibrating: Vibrations, born_charges: FloatArray, raman_tensors: FloatArray) -> Spectra:
    """Intensities of harmonic modes Q, displacements x = e Q / √m.

    Infrared `N_A π / (3 c² 4πε₀) |∂µ/∂Q|²`; Raman `45 a'² + 7 γ'²` with a' the mean and γ' the anisotropy of
    `∂α/∂Q` (Wilson, Decius, Cross, Molecular Vibrations, sections 7-9 and 3-7).

    Args:
        born_charges: [atom, 3, 3] e, change of dipole_i by x_j as [atom, i, j].
        raman_tensors: [atom, 3, 3, 3] e·Å/V, change of polarizability_ij by x_k as [atom, i, j, k].
    """
    moved = vibrating.modes / np.sqrt(vibrating.atoms.get_masses())[:, None]  # [mode, atom, 3]
    dipole = np.einsum("aij,maj->mi", born_charges, moved)
    change = COULOMB_CONSTANT * np.einsum("aijk,mak->mij", raman_tensors, moved)  # Å²/√amu
    mean = np.trace(change, axis1=1, axis2=2) / 3
    deviator = change - mean[:, None, None] * np.eye(3)
    anisotropy = 1.5 * (deviator**2).sum((1, 2))  # γ'²
    return Spectra(vibrating.frequencies, KM_PER_MOL * (dipole**2).sum(1), 45 * mean**2 + 7 * anisotropy)


def broadened(frequencies: FloatArray, sticks: FloatArray, grid: FloatArray, width: float) -> FloatArray:
    """Lorentzians of area `sticks` and full width at half maximum `width` in cm⁻¹; stable modes alone."""
    stable = frequencies > 0
    distance = grid[:, None] - frequencies[stable]
    lines = width / (2 * np.pi) / (distance**2 + (width / 2) ** 2)
    return lines @ sticks[stable]


def spectral_grid(frequencies: FloatArray, width: float) -> FloatArray:
    """From 0 to beyond the last mode, ten points to a width, cm⁻¹."""
    last = max(float(frequencies.max(initial=0.0)), width)
    return np.arange(0.0, 1.1 * last + 20 * width, width / 10)
