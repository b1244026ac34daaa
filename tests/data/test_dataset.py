"""Graphs of frames, with neighbor lists from the disk."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sample_frames import random_structures, write_extxyz

from nequip.data.dataset import GraphDataset
from nequip.data.neighbors import Cutoffs, TypeMapper
from nequip.data.sources import open_source
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
