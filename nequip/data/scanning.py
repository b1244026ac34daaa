"""One pass over the frames of a data set: neighbor lists and what statistics need, in several processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Protocol

import numpy as np

from nequip.data.neighbor_cache import RECORD, Arrays, BlockWriter, CacheFolder, NeighborCache, blocks
from nequip.data.neighbors import IntArray, ScannedFrame
from nequip.data.progress import progress
from nequip.data.statistics import Tally
from nequip.data.workers import in_workers

_GOLDEN = 0.618034  # its multiples modulo 1 divide the circle evenly, wherever one stops


class Scannable(Protocol):
    """A data set that is read for the first time."""

    indices: IntArray

    @property
    def num_types(self) -> int:
        """How many types of atoms there are."""
        ...

    def __len__(self) -> int: ...

    def scan(self, positions: range) -> Iterator[ScannedFrame]:
        """Frames with their edges, which are searched."""
        ...


def scan(
    dataset: Scannable, folder: CacheFolder | None, *, num_workers: int = 0, label: str = "", process: int = 0
) -> tuple[NeighborCache, IntArray, Tally]:
    """The neighbor cache, indices of the frames, and what statistics need; read where `folder` has them.

    Without `folder` edges are counted and not kept. `num_workers` processes do the work, 0: this one.
    `label` names it to whoever watches; none: nothing is shown. Runs that write one folder at the same
    time divide the work by the `process` that they are: each begins at another block, and leaves out
    those that others have finished.

    Raises:
        DataError: for unknown elements, overlapping atoms and the like, naming the frame; for a full disk.
    """
    if folder is not None and (found := folder.open()) is not None:
        cache, indices, totals = found
        return cache, indices, _sum([totals], dataset.num_types)
    parts = blocks(len(dataset))
    order = order_of_blocks(len(parts), process)
    missing = (number for number in order if folder is None or folder.block(number) is None)
    scanned = in_workers(partial(_scan_block, dataset, folder), missing, num_workers)
    if label:
        scanned = progress(scanned, label, len(dataset), frames=_num_frames)
    if folder is None:
        tables = dict(scanned)
        found = [tables[number] for number in range(len(parts))]
        table = np.concatenate([np.zeros(0, RECORD), *(arrays["table"] for arrays in found)])
        return NeighborCache(table, None), dataset.indices, _sum(found, dataset.num_types)
    deque(scanned, maxlen=0)
    folder.finish(dataset.indices, lambda found: _sum(found, dataset.num_types).arrays())
    return scan(dataset, folder)


def order_of_blocks(number: int, process: int) -> list[int]:
    """All blocks, from a place on that lies far from those of other processes, however many there are."""
    first = int(number * (process * _GOLDEN % 1))
    return [*range(first, number), *range(first)]


def _scan_block(dataset: Scannable, folder: CacheFolder | None, block: int) -> tuple[int, Arrays]:
    tally = Tally(dataset.num_types)
    with nullcontext(BlockWriter()) if folder is None else folder.writing(block) as writer:
        for scanned in dataset.scan(blocks(len(dataset))[block]):
            writer.add(scanned.frame.num_atoms, scanned.neighbors)
            tally.add(scanned)
    arrays = {"table": writer.table(), **tally.arrays()}
    if folder is not None:
        folder.finish_block(block, arrays)
    return block, arrays


def _sum(found: Iterable[Arrays], num_types: int) -> Tally:
    tally = Tally(num_types)
    for arrays in found:
        tally.add_arrays(arrays)
    return tally


def _num_frames(scanned: tuple[int, Arrays]) -> int:
    return len(scanned[1]["table"])
