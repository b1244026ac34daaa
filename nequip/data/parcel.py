"""A batch on its way from a worker to the process that trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from nequip.data.graph import AtomicGraph, Labels
from nequip.typing import Tensor

# Fields of a graph; those of its labels come after them.
_FIELDS = [name for name in AtomicGraph._fields if name != "labels"]


class Parcel:
    """Becomes an AtomicGraph where it is unpickled, all its tensors in one piece of shared memory.

    torch sends each tensor as a file of its own, which for two dozen takes longer than making a batch.
    """

    def __init__(self, graph: AtomicGraph):
        self._graph = graph

    def __reduce__(self) -> tuple[Callable[..., AtomicGraph], tuple[Any, ...]]:
        values: list[Tensor | None] = [getattr(self._graph, name) for name in _FIELDS]
        values += self._graph.labels
        present = [value.contiguous() for value in values if value is not None]
        assert all(value.element_size() == 8 for value in present), "views of the content must be aligned"
        content = torch.cat([value.view(-1).view(torch.int64) for value in present])
        kinds = [None if value is None else (value.dtype, value.shape) for value in values]
        return _opened, (content, kinds)


def _opened(content: Tensor, kinds: list[tuple[torch.dtype, torch.Size] | None]) -> AtomicGraph:
    values: list[Any] = []
    start = 0
    for kind in kinds:
        if kind is None:
            values.append(None)
            continue
        dtype, shape = kind
        end = start + math.prod(shape)
        values.append(content[start:end].view(dtype).view(shape))
        start = end
    labels = Labels(*values[len(_FIELDS) :])
    return AtomicGraph(**dict(zip(_FIELDS, values, strict=False)), labels=labels)
