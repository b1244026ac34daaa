"""New frames, and beside them in every epoch a draw from older ones."""

from __future__ import annotations

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

    @property
    def indices(self) -> IntArray:
        """The place of every frame in its source."""
        return np.concatenate([self.new.indices, self.old.indices])

    def num_atoms(self) -> IntArray:
        """Atoms of every frame."""
        return np.concatenate([self.new.num_atoms(), self.old.num_atoms()])

    def num_edges(self) -> IntArray:
        """Edges of every frame."""
        return np.concatenate([self.new.num_edges(), self.old.num_edges()])

    def start_epoch(self, epoch: int) -> None:
        """Both parts draw what belongs to `epoch` from now on."""
        self.new.start_epoch(epoch)
        self.old.start_epoch(epoch)

    def draw(self, generator: np.random.Generator) -> IntArray:
        """The positions that an epoch takes, in its order."""
        old = generator.choice(len(self.old), self.num_drawn, replace=False)
        return generator.permutation(np.concatenate([np.arange(len(self.new)), len(self.new) + old]))

    def identity(self) -> dict[str, Any]:
        """What the graphs and the draws depend on."""
        return {**self.new.identity(), "replay": self.old.identity(), "num_drawn": self.num_drawn}
