"""What an epoch draws from new and older frames."""

from __future__ import annotations

import numpy as np
import pytest

from nequip.data.batching import BatchLimits, GraphBatchSampler
from nequip.data.dataset import FrameRole, GraphDataset
from nequip.data.frame import Frame
from nequip.data.neighbors import Cutoffs, TypeMapper
from nequip.data.replay import ReplayDataset
from nequip.data.sources import MemorySource


def rows(count: int, name: str) -> GraphDataset:
    """Rows of 2, 3, 4, ... hydrogen atoms."""
    frames = [
        Frame(
            np.ones(size, dtype=np.int64),
            np.arange(size)[:, None] * np.array([[1.0, 0, 0]]),
            energy=-1.0 * size,
        )
        for size in range(2, count + 2)
    ]
    source = MemorySource(name, frames, name, [])
    return GraphDataset(source, np.arange(count), TypeMapper(["H"]), Cutoffs(1.5))


def drawn(data: ReplayDataset, epoch: int) -> list[int]:
    sampler = GraphBatchSampler(data, BatchLimits(3), seed=1)
    sampler.set_epoch(epoch)
    return [position for batch in sampler for position in batch]


@pytest.mark.parametrize(("ratio", "number"), [(0.5, 2), (1.0, 4), (1.7, 7), (99.0, 10)])
def test_an_epoch_takes_all_new_frames_and_some_old_ones_once(ratio, number):
    positions = drawn(ReplayDataset(rows(4, "new"), rows(10, "old"), ratio), epoch=0)
    assert sorted(positions)[:4] == [0, 1, 2, 3]
    assert len(set(positions)) == len(positions) == 4 + number


def test_epochs_draw_others_and_each_its_own_again():
    data = ReplayDataset(rows(4, "new"), rows(100, "old"), 1.0)
    assert sorted(drawn(data, 0)) != sorted(drawn(data, 1))
    assert drawn(data, 1) == drawn(data, 1)


def test_frames_of_both_sets_lie_side_by_side():
    data = ReplayDataset(rows(2, "new"), rows(3, "old"), 1.0)
    assert data.num_atoms(np.arange(5)).tolist() == [2, 3, 2, 3, 4]
    assert data.num_edges(np.arange(5)).tolist() == [2, 4, 2, 4, 6]
    assert [data[position].num_atoms for position in range(5)] == [2, 3, 2, 3, 4]


def test_a_role_sets_head_weight_and_reference_energy():
    data = rows(2, "old").in_role(FrameRole(head=1, weight=0.5, energy_shifts=(-10.0,)))
    graph = data[1]
    assert (graph.head.item(), graph.labels.weight.item(), graph.labels.energy.item()) == (1, 0.5, -33.0)


def test_another_role_is_another_data_set_for_a_resumed_run():
    data = rows(2, "old")
    assert data.identity() != data.in_role(FrameRole(weight=0.5)).identity()
