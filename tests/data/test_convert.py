"""Conversion to a store: whole or resumable, never half."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from sample_frames import assert_same, random_structures, write_database, write_extxyz

from nequip.data.convert import convert
from nequip.data.sources import LabelMap, open_source
from nequip.data.verification import verify_store
from nequip.errors import DataError

STRUCTURES = random_structures(10)
ROUNDING = 1e-8


@pytest.fixture(scope="module")
def xyz(tmp_path_factory) -> Path:
    return write_extxyz(tmp_path_factory.mktemp("convert") / "all.xyz", STRUCTURES)


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_same_content(first: Path, second: Path) -> None:
    one, other = open_source(first), open_source(second)
    assert len(one) == len(other)
    for index in range(len(one)):
        assert_same(one[index], other[index])


def test_a_folder_holds_shards_and_a_manifest(xyz, tmp_path):
    assert convert(xyz, tmp_path / "out", shard_size=4) == 10
    assert shards(tmp_path / "out") == ["shard-00000.h5", "shard-00001.h5", "shard-00002.h5", "store.json"]


def test_a_name_with_a_suffix_is_one_file(xyz, tmp_path):
    assert convert(xyz, tmp_path / "sub" / "out.lmdb") == 10
    assert shards(tmp_path / "sub") == ["out.lmdb"]


@pytest.mark.parametrize("kind", ["hdf5", "lmdb"])
def test_stores_convert_into_each_other_without_loss(xyz, tmp_path, kind):
    convert(xyz, tmp_path / "first", shard_size=4)
    convert(tmp_path / "first", tmp_path / "second", kind=kind, shard_size=3)
    assert_same_content(tmp_path / "first", tmp_path / "second")


def test_databases_convert(xyz, tmp_path):
    database = write_database(tmp_path / "all.db", STRUCTURES)
    convert(database, tmp_path / "out", shard_size=4)
    assert_same_content(database, tmp_path / "out")


def test_several_files_convert_as_one(tmp_path):
    write_extxyz(tmp_path / "a.xyz", STRUCTURES[:3])
    write_extxyz(tmp_path / "b.xyz", STRUCTURES[3:])
    assert convert(tmp_path / "*.xyz", tmp_path / "out", shard_size=4) == 10
    assert open_source(tmp_path / "out")[3].numbers.tolist() == STRUCTURES[3].numbers.tolist()


def test_labels_are_named_and_signed_at_conversion(xyz, tmp_path):
    convert(xyz, tmp_path / "out.h5", labels=LabelMap(stress_sign=-1))
    plain, turned = open_source(xyz)[0].stress, open_source(tmp_path / "out.h5")[0].stress
    assert plain is not None
    assert turned is not None
    assert (turned == -plain).all()


def test_a_finished_conversion_is_left_alone(xyz, tmp_path):
    convert(xyz, tmp_path / "out", shard_size=4)
    before = (tmp_path / "out" / "shard-00000.h5").stat().st_mtime_ns
    assert convert(xyz, tmp_path / "out", shard_size=4) == 10
    assert (tmp_path / "out" / "shard-00000.h5").stat().st_mtime_ns == before


def interrupt(folder: Path, *missing: str) -> None:
    """Leave the folder as a kill would: no frame count, shards missing."""
    manifest = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps(manifest | {"num_frames": None}))
    for name in missing:
        (folder / name).unlink()


@pytest.mark.parametrize("source", ["all.xyz", "all.db"])
def test_an_interrupted_conversion_keeps_whole_shards(xyz, tmp_path, source):
    path = xyz if source == "all.xyz" else write_database(tmp_path / "all.db", STRUCTURES)
    out = tmp_path / "out"
    convert(path, out, shard_size=3)
    interrupt(out, "shard-00002.h5", "shard-00003.h5")
    (out / "shard-00002.h5.part").write_bytes(b"half a shard")
    kept = (out / "shard-00001.h5").stat().st_mtime_ns
    assert convert(path, out, shard_size=3) == 10
    assert (out / "shard-00001.h5").stat().st_mtime_ns == kept
    assert not (out / "shard-00002.h5.part").exists()
    convert(path, tmp_path / "fresh", shard_size=3)
    assert_same_content(out, tmp_path / "fresh")


def test_a_damaged_shard_is_done_again(xyz, tmp_path):
    out = tmp_path / "out"
    convert(xyz, out, shard_size=3)
    interrupt(out)
    content = (out / "shard-00001.h5").read_bytes()
    (out / "shard-00001.h5").write_bytes(content[: len(content) // 2])
    assert convert(xyz, out, shard_size=3) == 10
    assert open_source(out)[4].energy == open_source(xyz)[4].energy


def test_an_interrupted_store_cannot_be_opened(xyz, tmp_path):
    convert(xyz, tmp_path / "out", shard_size=3)
    interrupt(tmp_path / "out")
    with pytest.raises(DataError, match="is not complete: run the same nequip-data convert again"):
        open_source(tmp_path / "out")


@pytest.mark.parametrize(("kind", "num_workers"), [("hdf5", 0), ("hdf5", 2), ("lmdb", 2)])
def test_a_process_that_is_killed_can_be_continued(tmp_path, kind, num_workers):
    path = write_extxyz(tmp_path / "many.xyz", random_structures(20) * 150)
    out, suffix = tmp_path / "out", {"hdf5": "h5", "lmdb": "lmdb"}[kind]
    how = {"kind": kind, "shard_size": 100, "num_workers": num_workers}
    code = f"from nequip.data.convert import convert; convert({str(path)!r}, {str(out)!r}, **{how})"
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (out / f"shard-00003.{suffix}").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = out / f"shard-00000.{suffix}"
    kept = first.stat().st_mtime_ns
    assert convert(path, out, **how) == 3000
    assert first.stat().st_mtime_ns == kept
    assert verify_store(out) == 3000
    convert(path, tmp_path / "fresh", kind=kind, shard_size=100)
    assert open_source(out).fingerprint() == open_source(tmp_path / "fresh").fingerprint()


@pytest.mark.parametrize("kind", ["hdf5", "lmdb"])
@pytest.mark.parametrize("source", ["all.xyz", "all.traj", "store"])
def test_several_processes_write_what_one_does(xyz, tmp_path, kind, source):
    path = tmp_path / source
    if source == "store":
        convert(xyz, path, shard_size=4)
    else:
        write(path, STRUCTURES)
    for name, num_workers in (("one", 0), ("two", 2)):
        convert(path, tmp_path / name, kind=kind, shard_size=3, num_workers=num_workers)
    one, two = open_source(tmp_path / "one"), open_source(tmp_path / "two")
    assert one.fingerprint() == two.fingerprint()
    assert_same_content(tmp_path / "one", tmp_path / "two")


def test_a_shard_that_is_missing_amid_others_is_the_only_one_written(xyz, tmp_path):
    out = tmp_path / "out"
    convert(xyz, out, shard_size=2)
    interrupt(out, "shard-00001.h5")
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*")}
    assert convert(xyz, out, shard_size=2, num_workers=2) == 10
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*")}.items() > kept.items()
    assert_same_content(out, xyz)


def test_a_mistake_that_a_worker_finds_is_one_sentence(xyz, tmp_path):
    path = tmp_path / "bad.xyz"
    path.write_text(xyz.read_text() + "1\nenergy=inf\nH 0 0 0\n")
    with pytest.raises(DataError) as caught:
        convert(path, tmp_path / "out", shard_size=4, num_workers=2)
    assert str(caught.value).startswith(f"{path}, frame 10: 'energy'")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"shard_size": 5}, {"kind": "lmdb"}, {"labels": LabelMap(stress_sign=-1)}], ids=str
)
def test_a_folder_of_another_conversion_is_refused(xyz, tmp_path, change):
    convert(xyz, tmp_path / "out", shard_size=4)
    with pytest.raises(DataError, match="holds the store of another file, or one with other keys"):
        convert(xyz, tmp_path / "out", **{"shard_size": 4, **change})


def test_a_folder_of_other_things_is_refused(xyz, tmp_path):
    (tmp_path / "letter.txt").write_text("dear reader")
    with pytest.raises(DataError, match=r"is not empty and holds no store\.json"):
        convert(xyz, tmp_path)


def test_a_key_that_no_frame_has_leaves_the_store_incomplete(xyz, tmp_path):
    with pytest.raises(DataError, match="no frame has the key 'energi'"):
        convert(xyz, tmp_path / "out", labels=LabelMap(energy="energi"))
    with pytest.raises(DataError, match="is not complete"):
        open_source(tmp_path / "out")


def test_an_unreadable_frame_keeps_the_shards_before_it(xyz, tmp_path):
    path = tmp_path / "bad.xyz"
    path.write_text(xyz.read_text() + "1\n\nH 0 0\n")
    with pytest.raises(DataError, match=r"frame 10 .*cannot be read"):
        convert(path, tmp_path / "out", shard_size=4)
    assert shards(tmp_path / "out") == ["shard-00000.h5", "shard-00001.h5", "store.json"]


def test_a_file_that_cannot_be_written_is_named(xyz, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        convert(xyz, tmp_path / "file" / "out")


@pytest.mark.parametrize("kind", ["hdf5", "lmdb"])
def test_a_full_disk_keeps_whole_shards(xyz, tmp_path, kind):
    convert(xyz, tmp_path / "whole", shard_size=8, kind=kind)
    first = max(path.stat().st_size for path in (tmp_path / "whole").iterdir())
    code = f"""
import resource
from nequip.data.convert import convert
path, out = {str(xyz)!r}, {str(tmp_path / "out")!r}
resource.setrlimit(resource.RLIMIT_FSIZE, ({first // 2}, {first // 2}))
convert(path, out, shard_size=8, kind={kind!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1  # not that of a crash
    assert "DataError" in done.stderr
    assert "cannot be written" in done.stderr
    assert not list((tmp_path / "out").glob("shard-*[5b]"))
    assert convert(xyz, tmp_path / "out", shard_size=8, kind=kind) == 10


@pytest.mark.parametrize("name", ["out.h5", "out.lmdb"])
def test_hessians_survive_where_some_frames_have_none(tmp_path, name):
    structures = random_structures(4)
    for atoms in structures[1:3]:
        hessian = np.random.default_rng(len(atoms)).normal(size=(3 * len(atoms),) * 2)
        atoms.info["hessian"] = hessian + hessian.T
    xyz = write_extxyz(tmp_path / "some.xyz", structures)
    convert(xyz, tmp_path / name)
    store, origin = open_source(tmp_path / name), open_source(xyz)
    assert store[0].hessian is None
    assert store[3].hessian is None
    for index in (1, 2):
        assert np.array_equal(store[index].hessian, origin[index].hessian)
    assert "hessian" in store.label_keys()
    store.verify()
