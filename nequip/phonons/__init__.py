"""Second derivatives of the energy, exact: Hessians, phonons of crystals, vibrations of molecules."""

from nequip.phonons.hessian import hessian

__all__ = ["hessian"]
