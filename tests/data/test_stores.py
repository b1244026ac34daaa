"""Stores of many shards: known from their manifest, opened as they are read, checked against it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from sample_frames import assert_same, random_structures, write_extxyz

from nequip.data.convert import convert
from nequip.data.sources import open_source, separate_isolated_atoms
from nequip.data.sources.store import MAX_OPEN, OpenShards, ShardSource, StoreSource
from nequip.data.verification import verify_store
from nequip.errors import DataError

STRUCTURES = random_structures(10)
LONE = Atoms("N", info={"config_type": "isolated_atom", "energy": -3.0})
KINDS = {"hdf5": ".h5", "lmdb": ".lmdb"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    xyz = write_extxyz(folder / "all.xyz", [*STRUCTURES, LONE])
    for kind in KINDS:
        convert(xyz, folder / kind, kind=kind, shard_size=3)
    return {kind: folder / kind for kind in KINDS}


@pytest.fixture(params=list(KINDS))
def store(request, stores, tmp_path) -> Path:
    """A copy that may be harmed."""
    return Path(shutil.copytree(stores[request.param], tmp_path / request.param))


def shard(store: Path, number: int) -> Path:
    return store / f"shard-{number:05d}{KINDS[store.name]}"


def blank_out(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def test_a_store_is_known_without_opening_a_shard(store):
    for number in range(4):
        blank_out(shard(store, number))
    source = open_source(store)
    everything = np.arange(11)
    assert len(source) == 11
    assert source.elements(everything) == {1, 7, 8}
    assert source.isolated().tolist() == [10]
    assert separate_isolated_atoms(source)[0].tolist() == list(range(10))
    assert source.label_keys() == ["energy", "forces", "stress"]


def test_only_shards_that_could_tell_of_more_are_opened(store):
    for number in (1, 2):
        blank_out(shard(store, number))
    source = open_source(store)
    frames = np.array([0, 1, 4, 5, 7])
    assert source.elements(frames) == {1, 8}
    assert source.group_names(frames) == {"cold", "hot"}


def test_a_shard_that_was_cut_is_told_when_the_store_is_opened(store):
    path = shard(store, 2)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        DataError, match=rf"{path.name} has \d+ bytes, but \d+ were written: it was cut short"
    ):
        open_source(store)


def test_a_shard_that_is_cut_in_use_is_told_with_the_frame(store):
    source = open_source(store)
    assert source[6].num_atoms == 3
    path = shard(store, 2)
    os.truncate(path, path.stat().st_size // 8)
    with pytest.raises(DataError, match=rf"{path.name}, frame 2 cannot be read .*cut or damaged while"):
        source[8]


def test_a_shard_of_another_store_is_told_when_it_is_read(store):
    path, size = shard(store, 0), shard(store, 0).stat().st_size
    path.write_bytes(shard(store, 1).read_bytes()[:size].ljust(size, b"\0"))
    source = open_source(store)
    with pytest.raises(DataError, match=rf"{path.name} (has changed since|cannot be opened)"):
        source[0]


def test_verify_counts_the_frames_of_whole_stores(store):
    assert verify_store(store) == 11
    assert verify_store(store, num_workers=2) == 11
    assert verify_store(shard(store, 0)) == 3


def test_verify_names_damaged_shards(store):
    energy = np.float64(open_source(store)[4].energy)
    path = shard(store, 1)
    path.write_bytes(path.read_bytes().replace(energy.tobytes(), np.nextafter(energy, 0).tobytes()))
    with pytest.raises(DataError, match=rf"1 of 4 shards are damaged \(.*{path.name}\)"):
        verify_store(store)


def test_verify_wants_a_store(tmp_path):
    with pytest.raises(DataError, match="is not a store"):
        verify_store(write_extxyz(tmp_path / "all.xyz", STRUCTURES))


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:50])])
def test_a_shard_that_is_missing_or_cut_is_converted_again(stores, store, harm):
    kept = shard(store, 0).stat().st_mtime_ns
    harm(shard(store, 1))
    xyz = stores[store.name].parent / "all.xyz"
    assert convert(xyz, store, kind=store.name, shard_size=3) == 11
    assert shard(store, 0).stat().st_mtime_ns == kept
    assert verify_store(store) == 11


def test_stores_of_earlier_releases_are_read(stores, store):
    manifest = json.loads((store / "store.json").read_text())
    del manifest["shards"]
    (store / "store.json").write_text(json.dumps(manifest | {"version": 1}))
    old, new = open_source(store), open_source(stores[store.name])
    assert old.fingerprint() == new.fingerprint()
    assert old.isolated().tolist() == [10]
    assert_same(old[4], new[4])


def test_the_shards_that_are_open_are_bounded(stores, tmp_path):
    opened = OpenShards()
    source = open_source(stores["hdf5"])
    assert isinstance(source, StoreSource)
    first = source.sources[0]
    assert isinstance(first, ShardSource)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(MAX_OPEN + 20):
        path = tmp_path / f"{number}.h5"
        path.symlink_to(first.name)
        opened.get(str(path), first.summary.checksum).frame(1)
    assert len(list(Path("/proc/self/fd").iterdir())) - before == MAX_OPEN
