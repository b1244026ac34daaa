"""Which frames go into a batch together: by a count, or up to a budget of atoms or edges."""

from __future__ import annotations

import logging
import math
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

    Among `world_size` processes, batches are dealt out in turn; where they do not come out even, the
    first ones are repeated so that all processes take as many steps.
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

    def set_epoch(self, epoch: int) -> None:
        """The next pass is that of `epoch`; one that differs from the last starts at its first batch."""
        if epoch != self.epoch:
            self.epoch, self._start = epoch, 0

    def start_at(self, batch: int) -> None:
        """Passes of this epoch leave out its first `batch` batches, as a run resumed in mid-epoch does."""
        self._start = batch

    def __len__(self) -> int:
        return len(self._of_epoch())

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._of_epoch()[self._start :]

    def _of_epoch(self) -> list[list[int]]:
        if self._batches is None or self._batches[0] != self.epoch:
            self._batches = (self.epoch, self._deal(self._cut(self._order())))
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

    def _deal(self, batches: list[list[int]]) -> list[list[int]]:
        steps = math.ceil(len(batches) / self.world_size)
        return [batches[(step * self.world_size + self.rank) % len(batches)] for step in range(steps)]


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
