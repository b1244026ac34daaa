"""Potentials from files and from published weights."""

from nequip.interop.published import from_published
from nequip.model.checkpoint import load

__all__ = ["from_published", "load"]
