"""Representation theory of O(3): irreps, Clebsch-Gordan coefficients, spherical harmonics."""

from nequip.o3.clebsch_gordan import wigner_3j, wigner_3j_array
from nequip.o3.columns import join, split
from nequip.o3.irreps import Block, Irrep, Irreps
from nequip.o3.rotation import wigner_d
from nequip.o3.spherical_harmonics import spherical_harmonics

__all__ = [
    "Block",
    "Irrep",
    "Irreps",
    "join",
    "spherical_harmonics",
    "split",
    "wigner_3j",
    "wigner_3j_array",
    "wigner_d",
]
