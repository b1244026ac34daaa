"""Batches and loaders: everything once, in an order that only seed and epoch decide."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_frames import random_structures, write_extxyz

from nequip.data.batching import BatchLimits, GraphBatchSampler
from nequip.data.convert import convert
from nequip.data.dataset import GraphDataset
from nequip.data.frame import Frame
from nequip.data.graph import collate
from nequip.data.loading import is_blank, make_loader
from nequip.data.neighbors import Cutoffs, TypeMapper
from nequip.data.order import WINDOW, shuffled
from nequip.data.parcel import Parcel
from nequip.data.sources import MemorySource, open_source

MAPPER = TypeMapper(["H", "O"])


def dataset_of(sizes: list[int]) -> GraphDataset:
    """Rows of hydrogen atoms 1 Å apart: a row of n has 2 (n - 1) edges."""
    frames = [
        Frame(np.ones(size, dtype=np.int64), np.arange(size)[:, None] * np.array([[1.0, 0, 0]]))
        for size in sizes
    ]
    source = MemorySource("memory", frames, "fingerprint", [])
    return GraphDataset(source, np.arange(len(sizes)), MAPPER, Cutoffs(1.5))


DATA = dataset_of([3, 5, 2, 8, 1, 4, 4, 6, 2, 7])


def batches(limits: BatchLimits, epoch: int = 0, **options) -> list[list[int]]:
    sampler = GraphBatchSampler(DATA, limits, **options)
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(sampler) == len(found)
    return found


def flat(found: list[list[int]]) -> list[int]:
    return [position for batch in found for position in batch]


ALL_LIMITS = [BatchLimits(3), BatchLimits(max_atoms=10), BatchLimits(max_edges=12), BatchLimits(1, 12, 9)]


@pytest.mark.parametrize("limits", ALL_LIMITS, ids=str)
def test_every_frame_comes_once_an_epoch(limits):
    for epoch in range(3):
        assert sorted(flat(batches(limits, epoch))) == list(range(10))


def test_batches_by_count_are_of_that_size():
    assert [len(batch) for batch in batches(BatchLimits(4))] == [4, 4, 2]


@pytest.mark.parametrize("limits", ALL_LIMITS[1:], ids=str)
def test_budgets_are_kept(limits):
    for batch in batches(limits):
        atoms, edges = (int(f(np.array(batch)).sum()) for f in (DATA.num_atoms, DATA.num_edges))
        within = atoms <= (limits.max_atoms or np.inf) and edges <= (limits.max_edges or np.inf)
        assert within or len(batch) == 1


def test_batches_are_filled_up_to_the_budget():
    assert batches(BatchLimits(max_atoms=10), shuffle=False) == [[0, 1, 2], [3, 4], [5, 6], [7, 8], [9]]


def test_a_frame_above_the_budget_gets_a_batch_of_its_own_and_a_line(caplog):
    with caplog.at_level(logging.WARNING, "nequip.data.batching"):
        found = batches(BatchLimits(max_atoms=6), shuffle=False)
    assert found == [[0], [1], [2], [3], [4, 5], [6], [7], [8], [9]]
    assert caplog.messages == [
        "the batch budget is too small for 2 of 10 frames, which get batches of their own (first: frame 3)."
    ]


def test_the_order_depends_on_seed_and_epoch_alone():
    assert batches(BatchLimits(3), 2, seed=1) == batches(BatchLimits(3), 2, seed=1)
    assert batches(BatchLimits(3), 2, seed=1) != batches(BatchLimits(3), 3, seed=1)
    assert batches(BatchLimits(3), 2, seed=1) != batches(BatchLimits(3), 2, seed=2)


def test_without_shuffling_the_order_is_that_of_the_data_set():
    assert flat(batches(BatchLimits(3), 5, shuffle=False)) == list(range(10))


@pytest.mark.parametrize("limits", ALL_LIMITS, ids=str)
def test_an_epoch_goes_on_where_it_was_left(limits):
    whole = batches(limits, epoch=4)
    sampler = GraphBatchSampler(DATA, limits)
    sampler.set_epoch(4)
    sampler.start_at(2)
    sampler.set_epoch(4)
    assert list(sampler) == whole[2:]
    assert len(sampler) == len(whole)
    sampler.set_epoch(5)
    assert list(sampler) == batches(limits, epoch=5)


def shares(limits: BatchLimits, world_size: int) -> list[tuple[list[int], ...]]:
    """What every process gets of each batch."""
    ranks = [batches(limits, rank=rank, world_size=world_size) for rank in range(world_size)]
    return list(zip(*ranks, strict=True))


@pytest.mark.parametrize("limits", ALL_LIMITS, ids=str)
@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_processes_divide_the_batches_that_one_process_has(limits, world_size):
    dealt = [sorted(flat(list(parts))) for parts in shares(limits, world_size)]
    assert dealt == [sorted(batch) for batch in batches(limits)]


def test_the_parts_of_a_batch_have_about_as_many_edges():
    (parts,) = shares(BatchLimits(10), 3)
    edges = [int(DATA.num_edges(np.array(part)).sum()) for part in parts]
    assert max(edges) - min(edges) <= 2


def test_the_idle_fraction_is_what_the_busiest_process_has_above_the_mean():
    # Rows of 8 and 3 atoms have 14 and 4 edges, and a frame counts as one more: 15 and 5.
    sampler = GraphBatchSampler(dataset_of([8, 3]), BatchLimits(2), rank=1, world_size=2)
    assert list(sampler) == [[1]]
    assert sampler.idle_fraction == pytest.approx(1 - 10 / 15)


def test_a_process_without_a_share_gets_a_frame_without_labels():
    sampler = GraphBatchSampler(DATA, BatchLimits(1), rank=1, world_size=2)
    graphs = list(make_loader(DATA, sampler))
    assert len(graphs) == 10
    assert all(is_blank(graph) and graph.labels.energy.isnan().all() for graph in graphs)


def test_no_frames_are_no_batches():
    assert list(GraphBatchSampler(dataset_of([]), BatchLimits(3))) == []


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("loading")
    convert(write_extxyz(folder / "all.xyz", random_structures(12)), folder / "store", shard_size=5)
    return folder


@pytest.fixture(params=["all.xyz", "store"])
def data(request, store, tmp_path) -> GraphDataset:
    dataset = GraphDataset(
        open_source(store / request.param), np.arange(12), MAPPER, Cutoffs(4.0), cache_dir=tmp_path
    )
    dataset.prepare()
    return dataset


def epochs(data: GraphDataset, num_workers: int) -> list[list[int]]:
    sampler = GraphBatchSampler(data, BatchLimits(max_atoms=20), seed=3)
    loader = make_loader(data, sampler, num_workers)
    found = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        found += [graph.labels.index.tolist() for graph in loader]
    return found


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_give_the_batches_that_one_process_gives(data, num_workers):
    assert epochs(data, num_workers) == epochs(data, 0)


def test_a_batch_holds_its_frames_side_by_side(data):
    sampler = GraphBatchSampler(data, BatchLimits(4), shuffle=False)
    batch = next(iter(make_loader(data, sampler)))
    assert batch.num_graphs == 4
    assert torch.equal(
        batch.labels.energy, torch.cat([data[position].labels.energy for position in range(4)])
    )


def test_workers_tell_what_is_wrong_with_a_frame(tmp_path):
    bad = random_structures(3)
    bad[1].positions[1] = bad[1].positions[0]
    source = open_source(write_extxyz(tmp_path / "bad.xyz", bad))
    data = GraphDataset(source, np.arange(3), MAPPER, Cutoffs(4.0))
    loader = make_loader(data, GraphBatchSampler(data, BatchLimits(1), shuffle=False), num_workers=1)
    with pytest.raises(Exception, match=r"bad\.xyz, frame 1: atoms 0 and 1 overlap") as caught:
        list(loader)
    assert caught.type.__name__ == "DataError"


class Sizes:
    """A large set of which only the sizes are known."""

    def __init__(self, number: int):
        self._edges = np.random.default_rng(0).integers(0, 300, number)

    def __len__(self) -> int:
        return len(self._edges)

    def num_atoms(self, positions: np.ndarray) -> np.ndarray:
        return 1 + self._edges[positions] // 10

    def num_edges(self, positions: np.ndarray) -> np.ndarray:
        return self._edges[positions]

    def place(self, position: int) -> int:
        return position

    def draw(self, generator: np.random.Generator) -> Iterator[np.ndarray]:
        return shuffled(len(self), generator)


LARGE = Sizes(2 * WINDOW + 1000)


@pytest.mark.parametrize("limits", [BatchLimits(64), BatchLimits(max_atoms=1500, max_edges=9000)], ids=str)
def test_an_epoch_of_many_windows_goes_on_at_another_width_without_a_frame_twice_or_skipped(limits):
    def dealt(world_size: int, start: int, stop: int | None) -> list[int]:
        found = []
        for rank in range(world_size):
            sampler = GraphBatchSampler(LARGE, limits, seed=2, rank=rank, world_size=world_size)
            sampler.set_epoch(3)
            sampler.start_at(start)
            found += flat(list(islice(sampler, None if stop is None else stop - start)))
        return found

    first, middle, rest = dealt(2, 0, 700), dealt(3, 700, 1100), dealt(1, 1100, None)
    assert sorted(first + middle + rest) == list(range(len(LARGE)))


def test_batches_are_filled_across_the_windows_of_an_epoch():
    sampler = GraphBatchSampler(LARGE, BatchLimits(max_edges=9000))
    loads = [LARGE.num_edges(np.array(batch)).sum() for batch in sampler]
    assert min(loads[:-1]) > 9000 - 300
    assert max(loads) <= 9000


def test_processes_wait_little_for_each_other():
    samplers = [
        GraphBatchSampler(LARGE, BatchLimits(max_edges=9000), rank=rank, world_size=4) for rank in range(2)
    ]
    for sampler in samplers:
        list(sampler)
    assert samplers[0].idle_fraction == samplers[1].idle_fraction < 0.03


def test_a_batch_from_a_worker_comes_in_one_piece_and_whole():
    graph = collate([DATA[0], DATA[1]])
    graph = graph._replace(labels=graph.labels._replace(dipole=torch.randn(2, 3, dtype=torch.float64)))
    opened = pickle.loads(pickle.dumps(Parcel(graph)))
    assert (
        len({value.untyped_storage().data_ptr() for value in opened if isinstance(value, torch.Tensor)}) == 1
    )
    for one, other in ((opened, graph), (opened.labels, graph.labels)):
        for name, value in other._asdict().items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(getattr(one, name), value, rtol=0, atol=0, equal_nan=True)
            elif name != "labels":
                assert getattr(one, name) is None
