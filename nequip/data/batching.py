"""Which frames go into a batch together: by a count, or up to a budget of atoms or edges."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from nequip.data.neighbors import IntArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchLimits:
    """`size` frames; where a budget of atoms or edges is given, it holds instead of `size`."""

    size: int = 1
    max_atoms: int | None = None
    max_edges: int | None = None


class Frames(Protocol):
    """A data set whose frames are put into batches."""

    @property
    def indices(self) -> IntArray:
        """The place of every frame in its source."""
        ...

    def __len__(self) -> int: ...

    def num_atoms(self) -> IntArray:
        """Atoms of every frame."""
        ...

    def num_edges(self) -> IntArray:
        """Edges of every frame."""
        ...

    def draw(self, generator: np.random.Generator) -> IntArray:
        """The positions that an epoch takes, in its order."""
        ...


class GraphBatchSampler(Sampler[list[int]]):
    """Batches of positions in a data set; their order depends on `(seed, epoch)` alone.

    Every frame that the data set draws for an epoch comes once. A frame above the budget gets a batch of
    its own. `len` counts the batches of the whole epoch, wherever it was started.

    Each of `world_size` processes gets a share of every batch, with about as many edges as the others; the
    batches themselves do not depend on how many processes there are. A share may be empty.
    """

    def __init__(
        self,
        dataset: Frames,
        limits: BatchLimits,
        *,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        self._dataset = dataset
        self.limits = limits
        self.shuffle = shuffle
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self._start = 0
        self._costs, self._budget = _costs(dataset, limits)
        self._batches: tuple[int, list[list[int]]] | None = None  # of one epoch
        # A frame without edges is work too.
        self._edges = dataset.num_edges() + 1 if world_size > 1 else np.zeros(0, dtype=np.int64)
        self._mean_load = self._peak_load = 0.0  # edges of all batches dealt so far, of one process

    def set_epoch(self, epoch: int) -> None:
        """The next pass is that of `epoch`; one that differs from the last starts at its first batch."""
        if epoch != self.epoch:
            self.epoch, self._start = epoch, 0
            self._mean_load = self._peak_load = 0.0

    def start_at(self, batch: int) -> None:
        """Passes of this epoch leave out its first `batch` batches, as a run resumed in mid-epoch does."""
        self._start = batch

    def __len__(self) -> int:
        return len(self._of_epoch())

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._of_epoch()[self._start :]:
            yield batch if self.world_size == 1 else self._share(batch)

    @property
    def idle_fraction(self) -> float:
        """Share of this epoch that processes wait for the one with the most edges in its part of a batch."""
        return 1 - self._mean_load / self._peak_load if self._peak_load else 0.0

    def _of_epoch(self) -> list[list[int]]:
        if self._batches is None or self._batches[0] != self.epoch:
            self._batches = (self.epoch, self._cut(self._order()))
        return self._batches[1]

    def _order(self) -> IntArray:
        if not self.shuffle:
            return np.arange(len(self._dataset))
        return self._dataset.draw(np.random.default_rng((self.seed, self.epoch)))

    def _cut(self, order: IntArray) -> list[list[int]]:
        if not len(self._budget):
            size = self.limits.size
            return [order[start : start + size].tolist() for start in range(0, len(order), size)]
        batches: list[list[int]] = []
        left = np.full_like(self._budget, -1)
        for position, cost in zip(order.tolist(), self._costs[order], strict=True):
            if (cost > left).any():
                batches.append([])
                left = self._budget
            batches[-1].append(position)
            left = left - cost
        return batches

    def _share(self, batch: list[int]) -> list[int]:
        """Largest frames first, each to the process with the fewest edges so far; then in the old order."""
        edges = self._edges[batch]
        loads = [(0, rank) for rank in range(self.world_size)]
        owner = np.zeros(len(batch), dtype=np.int64)
        for place in np.argsort(-edges, kind="stable").tolist():
            load, owner[place] = loads[0]
            heapq.heapreplace(loads, (load + int(edges[place]), loads[0][1]))
        self._mean_load += sum(load for load, _ in loads) / self.world_size
        self._peak_load += max(loads)[0]
        return [batch[place] for place in np.flatnonzero(owner == self.rank).tolist()]


def _costs(dataset: Frames, limits: BatchLimits) -> tuple[IntArray, IntArray]:
    """What every frame takes of each budget [frame, budget], and the budgets."""
    columns: list[IntArray] = []
    budget: list[int] = []
    if limits.max_atoms is not None:
        columns.append(dataset.num_atoms())
        budget.append(limits.max_atoms)
    if limits.max_edges is not None:
        columns.append(dataset.num_edges())
        budget.append(limits.max_edges)
    costs = np.array(columns, dtype=np.int64).reshape(len(budget), len(dataset)).T
    above = np.flatnonzero((costs > budget).any(axis=1)) if budget else []
    if len(above):
        logger.warning(
            "the batch budget is too small for %d of %d frames, which get batches of their own "
            "(first: frame %d).",
            *(len(above), len(dataset), dataset.indices[above[0]]),
        )
    return costs, np.array(budget, dtype=np.int64)
