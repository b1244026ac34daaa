"""New frames, and beside them in every epoch a draw from older ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from nequip.data.dataset import GraphDataset
from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import IntArray


class ReplayDataset(Dataset[AtomicGraph]):
    """The frames of `new`, then those of `old`; an epoch takes all new ones and `ratio` old ones for each.

    An epoch takes no old frame twice: a ratio above what there are takes all of them.
    """

    def __init__(self, new: GraphDataset, old: GraphDataset, ratio: float):
        self.new, self.old = new, old
        self.num_drawn = min(round(ratio * len(new)), len(old))

    def __len__(self) -> int:
        return len(self.new) + len(self.old)

    def __getitem__(self, position: int) -> AtomicGraph:
        number = len(self.new)
        return self.new[position] if position < number else self.old[position - number]

    def place(self, position: int) -> int:
        """Index of a frame in its source."""
        number = len(self.new)
        return self.new.place(position) if position < number else self.old.place(position - number)

    def num_atoms(self, positions: IntArray) -> IntArray:
        """Atoms of these frames."""
        return self._of_both(GraphDataset.num_atoms, positions)

    def num_edges(self, positions: IntArray) -> IntArray:
        """Edges of these frames."""
        return self._of_both(GraphDataset.num_edges, positions)

    def _of_both(self, count: Callable[[GraphDataset, IntArray], IntArray], positions: IntArray) -> IntArray:
        found, is_new = np.empty_like(positions), positions < len(self.new)
        found[is_new] = count(self.new, positions[is_new])
        found[~is_new] = count(self.old, positions[~is_new] - len(self.new))
        return found

    def start_epoch(self, epoch: int) -> None:
        """Both parts draw what belongs to `epoch` from now on."""
        self.new.start_epoch(epoch)
        self.old.start_epoch(epoch)

    def draw(self, generator: np.random.Generator) -> Iterator[IntArray]:
        """The positions that an epoch takes, in its order; all new ones and those drawn are in memory."""
        old = generator.choice(len(self.old), self.num_drawn, replace=False)
        yield generator.permutation(np.concatenate([np.arange(len(self.new)), len(self.new) + old]))

    def identity(self) -> dict[str, Any]:
        """What the graphs and the draws depend on."""
        return {**self.new.identity(), "replay": self.old.identity(), "num_drawn": self.num_drawn}
