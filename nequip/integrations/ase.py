"""See nequip.calculators.ase."""

from nequip.calculators.ase import NequIPCalculator

__all__ = ["NequIPCalculator"]
