"""From a data set and a sampler to batches, in this process or in workers."""

from __future__ import annotations

from torch.utils.data import DataLoader, Dataset

from nequip.data.batching import GraphBatchSampler
from nequip.data.graph import AtomicGraph, collate


def make_loader(
    dataset: Dataset[AtomicGraph], sampler: GraphBatchSampler, num_workers: int = 0
) -> DataLoader[AtomicGraph]:
    """Batches as one `AtomicGraph` each; the same whatever `num_workers` is."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
    )
