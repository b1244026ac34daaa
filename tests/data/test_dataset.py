"""Graphs of frames, with neighbor lists from the disk."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_frames import random_structures, write_extxyz

from nequip.data.dataset import GraphDataset
from nequip.data.frame import Frame
from nequip.data.neighbor_cache import BLOCK, CacheFolder
from nequip.data.neighbors import Cutoffs, Neighbors, TypeMapper
from nequip.data.scanning import order_of_blocks
from nequip.data.sources import MemorySource, open_source
from nequip.errors import DataError

STRUCTURES = random_structures(8)
MAPPER, CUTOFFS = TypeMapper(["H", "O"]), Cutoffs(4.0)


@pytest.fixture(scope="module")
def xyz(tmp_path_factory) -> Path:
    return write_extxyz(tmp_path_factory.mktemp("dataset") / "all.xyz", STRUCTURES)


def dataset(xyz: Path, cache_dir: Path | None = None, indices=(5, 0, 3), cutoffs=CUTOFFS) -> GraphDataset:
    return GraphDataset(
        open_source(xyz), np.array(indices), MAPPER, cutoffs, groups=("cold", "hot"), cache_dir=cache_dir
    )


def scan(data: GraphDataset) -> GraphDataset:
    data.prepare()
    return data


def caches(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def assert_same_graphs(one: GraphDataset, other: GraphDataset) -> None:
    for position in range(len(one)):
        first, second = one[position], other[position]
        for name in ("center", "neighbor", "row_ptr", "transpose", "shift", "types", "positions"):
            assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_graphs_are_those_of_the_indices(xyz):
    data = dataset(xyz)
    assert [int(data[position].labels.index) for position in range(3)] == [5, 0, 3]
    assert data.num_atoms(np.arange(3)).tolist() == [data[position].num_atoms for position in range(3)]
    assert data.num_edges(np.arange(3)).tolist() == [data[position].num_edges for position in range(3)]


def test_groups_are_numbered(xyz):
    data = dataset(xyz)
    assert [data.groups[int(data[position].labels.group)] for position in range(3)] == ["hot", "cold", "hot"]


def test_a_scan_writes_neighbors_that_give_the_same_graphs(xyz, tmp_path):
    cached = scan(dataset(xyz, tmp_path))
    assert len(caches(tmp_path)) == 1
    assert_same_graphs(cached, dataset(xyz))
    assert cached.num_edges(np.arange(3)).tolist() == dataset(xyz).num_edges(np.arange(3)).tolist()


def test_a_second_run_reads_what_the_first_wrote(xyz, tmp_path):
    scan(dataset(xyz, tmp_path))
    (folder,) = caches(tmp_path)
    written = (folder / "totals.npz").stat().st_mtime_ns
    again = scan(dataset(xyz, tmp_path))
    assert (folder / "totals.npz").stat().st_mtime_ns == written
    assert_same_graphs(again, dataset(xyz))


@pytest.mark.parametrize(
    "change",
    [{"indices": (5, 0)}, {"cutoffs": Cutoffs(3.9)}, {"cutoffs": Cutoffs(4.0, ((4.0, 3.0), (2.0, 4.0)))}],
)
def test_other_frames_or_cutoffs_have_a_cache_of_their_own(xyz, tmp_path, change):
    scan(dataset(xyz, tmp_path))
    other = scan(dataset(xyz, tmp_path, **change))
    assert len(caches(tmp_path)) == 2
    assert_same_graphs(other, dataset(xyz, **change))


def test_other_content_has_a_cache_of_its_own(xyz, tmp_path):
    other = write_extxyz(tmp_path / "other.xyz", STRUCTURES[::-1])
    for path in (xyz, other):
        scan(dataset(path, tmp_path / "cache"))
    assert len(caches(tmp_path / "cache")) == 2


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize("harm", [cut, Path.unlink])
def test_edges_that_are_missing_are_searched_again(xyz, tmp_path, harm):
    scan(dataset(xyz, tmp_path))
    harm(caches(tmp_path)[0] / "00000.edges")
    assert_same_graphs(scan(dataset(xyz, tmp_path)), dataset(xyz))


def test_damaged_edges_are_told_when_they_are_read(xyz, tmp_path):
    data = scan(dataset(xyz, tmp_path))
    flip_a_byte(caches(tmp_path)[0] / "00000.edges")
    with pytest.raises(DataError, match=r"00000\.edges is damaged .*: delete it, and it is made anew"):
        [data[position] for position in range(3)]


@pytest.mark.parametrize("harm", [flip_a_byte, cut, Path.unlink])
@pytest.mark.parametrize("name", ["00000.npz", "index.npy", "indices.npy", "totals.npz"])
def test_a_damaged_cache_is_written_anew(xyz, tmp_path, harm, name):
    scan(dataset(xyz, tmp_path))
    (folder,) = caches(tmp_path)
    harm(folder / name)
    assert_same_graphs(scan(dataset(xyz, tmp_path)), dataset(xyz))
    assert caches(tmp_path) == [folder]
    assert_same_graphs(scan(dataset(xyz, tmp_path)), dataset(xyz))


def test_a_bad_frame_leaves_nothing_behind(tmp_path):
    bad = [*STRUCTURES, STRUCTURES[0].copy()]
    bad[-1].positions[1] = bad[-1].positions[0]
    path = write_extxyz(tmp_path / "bad.xyz", bad)
    with pytest.raises(DataError, match=r"bad\.xyz, frame 8: atoms 0 and 1 overlap"):
        dataset(path, tmp_path / "cache", indices=range(9)).prepare()
    assert caches(tmp_path / "cache") == []


def test_an_unknown_element_is_named_by_its_frame(xyz):
    data = GraphDataset(open_source(xyz), np.arange(2), TypeMapper(["O"]), Cutoffs(4.0))
    with pytest.raises(DataError, match=r"all\.xyz, frame 0 holds H, but the model knows only O"):
        data[0]


def _scan_in_process(data: GraphDataset) -> list[int]:
    return scan(data).num_edges(np.arange(3)).tolist()


def test_several_processes_may_write_one_cache(xyz, tmp_path):
    wanted = dataset(xyz).num_edges(np.arange(3)).tolist()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map(_scan_in_process, [dataset(xyz, tmp_path) for _ in range(8)], chunksize=1)
    assert found == [wanted] * 8
    assert len(caches(tmp_path)) == 1


def test_a_cached_data_set_survives_pickling(xyz, tmp_path):
    data = scan(dataset(xyz, tmp_path))
    assert_same_graphs(pickle.loads(pickle.dumps(data)), data)


def test_a_full_disk_is_told_with_what_to_do(xyz, tmp_path):
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_dataset import dataset, scan
scan(dataset(Path({str(xyz)!r}), Path({str(tmp_path / "cache")!r})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "DataError: neighbor lists cannot be written" in done.stderr
    assert "File too large" in done.stderr
    assert caches(tmp_path / "cache") == []


def test_a_cache_folder_that_cannot_be_made_is_named(xyz, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written to .*name another data\.cache_dir"):
        dataset(xyz, tmp_path / "file" / "cache").prepare()


def rows(count: int) -> GraphDataset:
    """Pairs of atoms, in more than one block."""
    frames = [
        Frame(np.array([1, 8]), np.array([[0.0, 0, 0], [0, 0, 1 + number / count]]), energy=float(number))
        for number in range(count)
    ]
    source = MemorySource("pairs", frames, "pairs", [])
    return GraphDataset(source, np.arange(count), MAPPER, CUTOFFS)


def cached_rows(cache_dir: Path) -> GraphDataset:
    data = rows(BLOCK + 10)
    return GraphDataset(data.source, data.indices, MAPPER, CUTOFFS, cache_dir=cache_dir)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_workers_write_the_cache_that_one_process_writes(tmp_path):
    tallies = [cached_rows(tmp_path / str(n)).prepare(n).arrays() for n in (0, 2)]
    assert all(np.array_equal(tallies[0][name], tallies[1][name]) for name in tallies[0])
    one, two = (content(caches(tmp_path / str(number))[0]) for number in (0, 2))
    assert one == two


def test_statistics_are_those_without_a_cache(tmp_path):
    found = [
        data.prepare().statistics(MAPPER.type_names, CUTOFFS).as_dict()
        for data in (rows(BLOCK + 10), cached_rows(tmp_path), cached_rows(tmp_path))
    ]
    assert found[0] == found[1] == found[2]


def test_a_scan_that_is_killed_goes_on_with_the_next_block(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_dataset import cached_rows
cached_rows(Path({str(tmp_path)!r})).prepare()
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    while not list(tmp_path.glob("*/00000.npz")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    (folder,) = caches(tmp_path)
    kept = (folder / "00000.edges").stat().st_mtime_ns
    cached_rows(tmp_path).prepare()
    assert (folder / "00000.edges").stat().st_mtime_ns == kept
    assert cached_rows(tmp_path)._folder.open() is not None


def test_processes_that_share_a_cache_begin_far_from_each_other():
    orders = [order_of_blocks(100, process) for process in range(8)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    begun = np.sort([order[0] for order in orders])
    assert np.diff([*begun, begun[0] + 100]).max() <= 24


def test_what_is_known_of_every_frame_is_mapped(tmp_path):
    data = cached_rows(tmp_path)
    data.prepare()
    assert isinstance(data.indices, np.memmap)
    assert isinstance(data._cache._table, np.memmap)


@pytest.mark.parametrize(("atoms", "shift"), [(3, 500), (70_000, 1)])
def test_edges_that_take_more_bytes_keep_their_numbers(tmp_path, atoms, shift):
    edges = Neighbors(
        np.array([0, atoms - 1]), np.array([atoms - 1, 0]), np.array([[shift, 0, 0], [-shift, 0, 1]])
    )
    folder = CacheFolder(tmp_path / "cache", 1)
    with folder.writing(0) as writer:
        writer.add(atoms, edges)
    folder.finish_block(0, {"table": writer.table()})
    folder.finish(np.arange(1), lambda found: {"frames": np.array(len(list(found)))})
    cache, _, _ = folder.open()
    for name in ("center", "neighbor", "shift"):
        assert np.array_equal(getattr(cache[0], name), getattr(edges, name))
