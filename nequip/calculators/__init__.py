"""Potentials where structures come from: ASE."""

from __future__ import annotations

from nequip.calculators.ase import NequIPCalculator

__all__ = ["NequIPCalculator"]
