"""Shapes in signatures: `Float[Tensor, "atom 3"]`. Documentation that a type checker accepts.

Dimension names used everywhere: atom, edge, graph, component, channel, path, type.
"""

from __future__ import annotations

from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

__all__ = ["Bool", "Complex", "Float", "Int", "Tensor"]
