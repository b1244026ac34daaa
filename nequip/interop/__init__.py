"""Potentials from files and from published weights."""

from nequip.interop.loading import load, read_card
from nequip.interop.published import from_published

__all__ = ["from_published", "load", "read_card"]
