"""The edges of a graph, as kernels see them."""

from __future__ import annotations

from typing import NamedTuple

from nequip.typing import Int, Tensor


class Edges(NamedTuple):
    """Directed edges sorted by center, with what sums without atomics need in both directions."""

    center: Int[Tensor, " edge"]  # sorted ascending
    neighbor: Int[Tensor, " edge"]
    row_ptr: Int[Tensor, " atom+1"]  # edges of atom i: row_ptr[i]:row_ptr[i+1]
    transpose: Int[Tensor, " edge"]  # permutation that sorts edges by neighbor
