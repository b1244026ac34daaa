"""From a data set and a sampler to batches, in this process or in workers."""

from __future__ import annotations

from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from nequip.data.batching import GraphBatchSampler
from nequip.data.graph import AtomicGraph, collate
from nequip.data.parcel import Parcel


def make_loader(
    dataset: Dataset[AtomicGraph], sampler: GraphBatchSampler, num_workers: int = 0
) -> DataLoader[AtomicGraph]:
    """Batches as one `AtomicGraph` each; the same whatever `num_workers` is.

    Where a batch has fewer frames than there are processes, some get a `blank` one, so that all take
    every step.
    """
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=partial(_collate, dataset),
        persistent_workers=num_workers > 0,
    )


def blank(graph: AtomicGraph) -> AtomicGraph:
    """The structure without a label, at no place of the source: it adds nothing to losses and errors."""
    labels = graph.labels
    kept = ("weight", "directions", "q", "patterns")
    unknown = {
        name: torch.full_like(value, torch.nan)
        for name, value in labels._asdict().items()
        if value is not None and value.is_floating_point() and name not in kept
    }
    return graph._replace(labels=labels._replace(index=torch.full_like(labels.index, -1), **unknown))


def is_blank(graph: AtomicGraph) -> bool:
    """Whether a batch is one that `blank` made."""
    return bool((graph.labels.index < 0).all())


def _collate(dataset: Dataset[AtomicGraph], graphs: list[AtomicGraph]) -> AtomicGraph | Parcel:
    batch = collate(graphs or [blank(dataset[0])])
    return batch if get_worker_info() is None else Parcel(batch)
