"""Which frames go into a batch together: by a count, or up to a budget of atoms or edges."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Protocol

import numpy as np
from torch.utils.data import Sampler

from nequip.data.neighbors import IntArray
from nequip.data.order import in_order

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchLimits:
    """`size` frames; where a budget of atoms or edges is given, it holds instead of `size`."""

    size: int = 1
    max_atoms: int | None = None
    max_edges: int | None = None


class Frames(Protocol):
    """A data set whose frames are put into batches."""

    def __len__(self) -> int: ...

    def num_atoms(self, positions: IntArray) -> IntArray:
        """Atoms of these frames."""
        ...

    def num_edges(self, positions: IntArray) -> IntArray:
        """Edges of these frames."""
        ...

    def place(self, position: int) -> int:
        """Index of a frame in its source, for messages."""
        ...

    def draw(self, generator: np.random.Generator) -> Iterator[IntArray]:
        """The positions that an epoch takes, in its order, one part after the other."""
        ...


class GraphBatchSampler(Sampler[list[int]]):
    """Batches of positions in a data set; their order depends on `(seed, epoch)` alone.

    They are made while they are used: no more than a part of the order is in memory.

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
        self._budget = _Budget(dataset, limits)
        self._budget.warn()
        self._length: tuple[int, int] | None = None  # of an epoch
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
        if self._length is None or self._length[0] != self.epoch:
            self._length = (self.epoch, sum(1 for _ in self._of_epoch()))
        return self._length[1]

    def __iter__(self) -> Iterator[list[int]]:
        for batch in islice(self._of_epoch(), self._start, None):
            yield (batch if self.world_size == 1 else self._share(batch)).tolist()

    @property
    def idle_fraction(self) -> float:
        """Share of this epoch that processes wait for the one with the most edges in its part of a batch."""
        return 1 - self._mean_load / self._peak_load if self._peak_load else 0.0

    def _of_epoch(self) -> Iterator[IntArray]:
        """Batches of the whole epoch; one that a part of the order leaves open is filled from the next."""
        waiting = np.zeros(0, dtype=np.int64)
        for part in self._order():
            waiting = np.concatenate([waiting, part])
            ends = self._budget.ends(waiting)
            for start, end in pairwise([0, *ends[:-1]]):
                yield waiting[start:end]
            waiting = waiting[ends[-2] if len(ends) > 1 else 0 :]
        if len(waiting):
            yield waiting

    def _order(self) -> Iterator[IntArray]:
        if not self.shuffle:
            return in_order(len(self._dataset))
        return self._dataset.draw(np.random.default_rng((self.seed, self.epoch)))

    def _share(self, batch: IntArray) -> IntArray:
        """Largest frames first, each to the process with the fewest edges so far; then in the old order."""
        edges = self._dataset.num_edges(batch) + 1  # a frame without edges is work too
        loads = [(0, rank) for rank in range(self.world_size)]
        owner = np.zeros(len(batch), dtype=np.int64)
        for place in np.argsort(-edges, kind="stable").tolist():
            load, owner[place] = loads[0]
            heapq.heapreplace(loads, (load + int(edges[place]), loads[0][1]))
        self._mean_load += sum(load for load, _ in loads) / self.world_size
        self._peak_load += max(loads)[0]
        return batch[owner == self.rank]


class _Budget:
    """Where batches end."""

    def __init__(self, dataset: Frames, limits: BatchLimits):
        self._dataset, self._size = dataset, limits.size
        kinds = ((limits.max_atoms, dataset.num_atoms), (limits.max_edges, dataset.num_edges))
        self._limits = [(limit, costs) for limit, costs in kinds if limit is not None]

    def ends(self, positions: IntArray) -> list[int]:
        """Ends of the batches that `positions` make, in this order, the last of which may not be full."""
        if not self._limits:
            return [*range(self._size, len(positions), self._size), len(positions)]
        totals = [(limit, np.cumsum(costs(positions))) for limit, costs in self._limits]
        ends, before = [0], [0] * len(totals)
        while ends[-1] < len(positions):
            reached = (
                total.searchsorted(start + limit, "right")
                for (limit, total), start in zip(totals, before, strict=True)
            )
            # A frame above the budget has a batch of its own.
            end = max(int(min(reached)), ends[-1] + 1)
            before = [int(total[end - 1]) for _, total in totals]
            ends.append(end)
        return ends[1:]

    def warn(self) -> None:
        """Tell of frames above the budget."""
        number, first = 0, -1
        for positions in in_order(len(self._dataset)) if self._limits else ():
            above = np.any([costs(positions) > limit for limit, costs in self._limits], axis=0)
            if above.any() and not number:
                first = int(positions[above.argmax()])
            number += int(above.sum())
        if number:
            logger.warning(
                "the batch budget is too small for %d of %d frames, which get batches of their own "
                "(first: frame %d).",
                *(number, len(self._dataset), self._dataset.place(first)),
            )
