"""Batches for the trainer, from wherever in the epoch a run goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from nequip.config.schema import BatchConfig
from nequip.data.batching import BatchLimits, GraphBatchSampler
from nequip.data.dataset import GraphDataset
from nequip.data.graph import AtomicGraph
from nequip.data.loading import make_loader
from nequip.data.replay import ReplayDataset
from nequip.data.workers import ignore_interrupts


class EpochBatches:
    """The batches of one epoch at each pass, without a length.

    Batches filled up to a budget differ in number from epoch to epoch, and Lightning would keep to
    the number it saw first: cut later epochs short, and skip their validation.
    """

    def __init__(self, loader: DataLoader[AtomicGraph]):
        self._loader: DataLoader[AtomicGraph] | None = loader
        self.waited = 0.0  # s, for batches that were not ready

    def __iter__(self) -> Iterator[AtomicGraph]:
        # Lightning makes iterators that it drops at once; a generator starts no workers for them.
        assert self._loader is not None
        batches = iter(self._loader)
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def close(self) -> None:
        """Let go of the workers, which would otherwise wait for the garbage collector to stop them."""
        self._loader = None


class GraphDataModule(pl.LightningDataModule):
    """Training batches in the order of (seed, epoch), validation batches in the order of the file.

    Replay frames held out are validated beside others, in a loader of their own.
    """

    def __init__(
        self,
        train: GraphDataset | ReplayDataset,
        val: GraphDataset | None,
        batch: BatchConfig,
        *,
        replay_val: GraphDataset | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ):
        super().__init__()
        self.train_set = train
        self.val_set = val if val is not None and len(val) else None
        has_replay = self.val_set is not None and replay_val is not None and len(replay_val)
        self.replay_val_set = replay_val if has_replay else None
        self._batch = batch
        self._seed = seed
        self._num_workers = num_workers
        self._sampler: GraphBatchSampler | None = None
        self._batches: EpochBatches | None = None
        self._epoch, self._first_batch = 0, 0

    @property
    def num_batches(self) -> int:
        """Training batches of the epoch under way."""
        assert self._sampler is not None
        return len(self._sampler)

    @property
    def idle_fraction(self) -> float:
        """Share of this epoch that processes wait for the one with the most edges in its part of a batch."""
        assert self._sampler is not None
        return self._sampler.idle_fraction

    @property
    def waited(self) -> float:
        """Seconds that this process has waited for training batches since the run began."""
        assert self._batches is not None
        return self._batches.waited

    def identity(self) -> dict[str, Any]:
        """What the order of the training batches depends on."""
        return {**self.train_set.identity(), "seed": self._seed, **self._batch.model_dump()}

    def start_epoch(self, epoch: int, batch: int = 0) -> None:
        """The next pass over the training batches is that of `epoch`, from its batch number `batch`."""
        self._epoch, self._first_batch = epoch, batch
        self.train_set.start_epoch(epoch)
        if self._sampler is not None:
            self._sampler.set_epoch(epoch)
            self._sampler.start_at(batch)

    def train_dataloader(self) -> EpochBatches:
        limits = BatchLimits(self._batch.size, self._batch.max_atoms, self._batch.max_edges)
        self._sampler = self._new_sampler(self.train_set, limits, shuffle=True)
        # Lightning fetches the first batch before it calls any hook of the epoch.
        self.start_epoch(self._epoch, self._first_batch)
        self._batches = EpochBatches(self._new_loader(self.train_set, self._sampler))
        return self._batches

    def val_dataloader(self) -> list[DataLoader[AtomicGraph]]:
        limits = BatchLimits(self._batch.val_size)
        held_out = [dataset for dataset in (self.val_set, self.replay_val_set) if dataset is not None]
        return [self._new_loader(part, self._new_sampler(part, limits, shuffle=False)) for part in held_out]

    def close(self) -> None:
        """Stop the workers."""
        if self._batches is not None:
            self._batches.close()

    def _new_loader(
        self, dataset: GraphDataset | ReplayDataset, sampler: GraphBatchSampler
    ) -> DataLoader[AtomicGraph]:
        loader = make_loader(dataset, sampler, self._num_workers)
        loader.worker_init_fn = ignore_interrupts  # training needs workers until it has saved
        return loader

    def _new_sampler(
        self, dataset: GraphDataset | ReplayDataset, limits: BatchLimits, *, shuffle: bool
    ) -> GraphBatchSampler:
        return GraphBatchSampler(
            dataset,
            limits,
            shuffle=shuffle,
            seed=self._seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
