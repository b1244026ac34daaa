"""How fast training is, what it waits for, and what memory it takes."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch

from nequip.data.graph import AtomicGraph
from nequip.data.loading import is_blank
from nequip.train import ranks
from nequip.train.module import PotentialModule

GB = 1e9


class Throughput(pl.Callback):
    """Adds to `module.record`, for `History` and the progress to read; validation is not counted.

    Atoms and edges of all processes per second; `data_wait`, the share of the time that processes wait
    for batches, in the mean; and in GB the most that any process has held since it began (`memory`), on
    its GPU too (`gpu_memory`).
    """

    def __init__(self) -> None:
        self._atoms = self._edges = 0
        self._waited = 0.0  # s, in the epochs before
        self._began = self._ended = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        self._begin(trainer)  # where a run goes on in mid-epoch no epoch starts

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        self._begin(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: PotentialModule,
        outputs: Any,
        batch: AtomicGraph,
        batch_idx: int,
    ) -> None:
        self._ended = time.perf_counter()
        if not is_blank(batch):
            self._atoms += batch.num_atoms
            self._edges += batch.num_edges

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        waited, seconds = trainer.datamodule.waited - self._waited, self._ended - self._began
        self._waited = trainer.datamodule.waited
        device, size = trainer.strategy.root_device, ranks.world_size()
        held = torch.zeros(2, size, dtype=torch.float64)
        held[:, ranks.rank()] = torch.tensor(_most_held(device), dtype=torch.float64)
        sums = torch.tensor([self._atoms, self._edges, waited, seconds], dtype=torch.float64)
        whole = ranks.summed(torch.cat([sums, held.flatten()]))
        atoms, edges, waited, seconds = whole[:4].tolist()
        memory, gpu_memory = whole[4:].reshape(2, size).amax(1).tolist()
        pl_module.record |= {
            "atoms_per_s": atoms * size / seconds,
            "edges_per_s": edges * size / seconds,
            "data_wait": waited / seconds,
            "memory": memory,
        }
        if device.type == "cuda":
            pl_module.record["gpu_memory"] = gpu_memory

    def _begin(self, trainer: pl.Trainer) -> None:
        self._atoms = self._edges = 0
        # The first batch of an epoch is fetched before it starts.
        self._began = time.perf_counter() - (trainer.datamodule.waited - self._waited)


def _most_held(device: torch.device) -> tuple[float, float]:
    """GB that this process has held at most, in main memory and on its GPU."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GB
    return resident, torch.cuda.max_memory_allocated(device) / GB if device.type == "cuda" else 0.0
