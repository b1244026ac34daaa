"""How many copies of one structure a graph may hold, as a budget of memory allows."""

from __future__ import annotations

import torch

from nequip.data.graph import AtomicGraph
from nequip.errors import ModelError
from nequip.nn.pieces import PIECE
from nequip.typing import Tensor

MEMORY = 2.0  # GB
# What a pass through a graph of derivatives needs at its peak, over what the graph itself holds.
PEAK = 2.0
# On a CPU more edges at once are slower: what they carry leaves the caches (measured on aspirin).
CPU_EDGES = 2048


def copies_within(memory: float, graph: AtomicGraph, held: int, wanted: int) -> int:
    """How many copies of a structure fit into `memory` (GB), of `wanted`.

    Args:
        held: bytes that the graph of derivatives of one copy holds.

    Raises:
        ModelError: where not even one fits.
    """
    fit = int(memory * 1e9 / (PEAK * max(held, 1)))
    if fit < 1:
        raise ModelError(
            f"second derivatives need {PEAK * held / 1e9:.2g} GB for one copy of the structure, and memory "
            f"is {memory:g} GB: allow more."
        )
    # Beyond a piece models compute anew what they do not keep, which gains nothing here.
    edges = CPU_EDGES if graph.positions.device.type == "cpu" else PIECE
    return max(1, min(fit, wanted, edges // max(graph.num_edges, 1)))


class Held:
    """A context that counts the bytes which a graph of derivatives keeps."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor

    def __enter__(self) -> Held:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)
