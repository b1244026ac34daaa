"""Every kind of file gives the same frames, survives a fork and a pickle, and says what is wrong."""

from __future__ import annotations

import gzip
import pickle
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from sample_frames import assert_same, random_structures, write_database, write_extxyz

from nequip.data.convert import convert
from nequip.data.frame import Frame
from nequip.data.sources import FrameSource, LabelMap, open_source
from nequip.data.sources.labels import frame_from_atoms
from nequip.data.sources.store import ShardSource
from nequip.errors import DataError

COUNT = 7
STRUCTURES = random_structures(COUNT)
REFERENCE = [frame_from_atoms(atoms, LabelMap(), "reference") for atoms in STRUCTURES]
ROUNDING = 1e-8  # of positions and forces in extxyz


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    text = write_extxyz(folder / "all.xyz", STRUCTURES)
    (folder / "all.xyz.gz").write_bytes(gzip.compress(text.read_bytes()))
    write(folder / "all.traj", STRUCTURES)
    write_database(folder / "all.db", STRUCTURES)
    convert(text, folder / "hdf5", shard_size=3)
    convert(text, folder / "lmdb", shard_size=3, kind="lmdb")
    convert(text, folder / "all.h5")
    convert(text, folder / "all.lmdb")
    (folder / "parts").mkdir()
    write_extxyz(folder / "parts" / "a.xyz", STRUCTURES[:4])
    write_extxyz(folder / "parts" / "b.xyz", STRUCTURES[4:])
    names = [
        "all.xyz",
        "all.xyz.gz",
        "all.db",
        "hdf5",
        "lmdb",
        "all.h5",
        "all.lmdb",
        "parts/*.xyz",
        "hdf5/*.h5",
    ]
    return {name: folder / name for name in [*names, "all.traj"]}


KINDS = ["all.xyz", "all.xyz.gz", "all.db", "hdf5", "lmdb", "all.h5", "all.lmdb", "parts/*.xyz", "hdf5/*.h5"]


@pytest.fixture(params=KINDS)
def source(request, files) -> FrameSource:
    return open_source(files[request.param])


def test_every_kind_gives_the_same_frames(source):
    assert len(source) == COUNT
    for index in np.random.default_rng(0).permutation(COUNT).tolist():
        assert_same(source[index], REFERENCE[index], ROUNDING)


def test_indices_tell_atoms_groups_and_elements(source):
    assert source.num_atoms().tolist() == [frame.num_atoms for frame in REFERENCE]
    assert source.groups() == [frame.group for frame in REFERENCE]
    assert source.group_names(np.array([2, 4])) == {"cold"}
    assert source.elements(np.array([2, 5])) == {1, 8}
    assert source.elements(np.array([], dtype=np.int64)) == set()


def test_sources_survive_pickling(source):
    source[0]
    assert_same(pickle.loads(pickle.dumps(source))[5], REFERENCE[5], ROUNDING)


def _energy(source: FrameSource, index: int) -> float | None:
    return source[index].energy


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(files, method):
    sources = [open_source(files[kind]) for kind in ("all.db", "hdf5", "lmdb")]
    parent = [_energy(source, 2) for source in sources]
    with get_context(method).Pool(2) as pool:
        tasks = [(source, 2) for source in sources]
        assert pool.starmap(_energy, tasks) == parent
    assert [_energy(source, 2) for source in sources] == parent


def test_a_child_reads_through_what_it_inherits(files):
    sources = [open_source(files[kind]) for kind in ("all.db", "hdf5", "lmdb")]
    queue = get_context("fork").Queue()

    def child():
        queue.put([source[6].energy for source in sources])

    process = get_context("fork").Process(target=child)
    process.start()
    assert queue.get(timeout=60) == [source[6].energy for source in sources]
    process.join()
    assert process.exitcode == 0


def test_fingerprints_are_those_of_the_content(files, tmp_path):
    same = write_extxyz(tmp_path / "same.xyz", STRUCTURES)
    other = write_extxyz(tmp_path / "other.xyz", STRUCTURES[::-1])
    fingerprint = open_source(files["all.xyz"]).fingerprint()
    assert open_source(same).fingerprint() == fingerprint
    assert open_source(other).fingerprint() != fingerprint
    assert open_source(same, LabelMap(stress_sign=-1)).fingerprint() != fingerprint


@pytest.mark.parametrize("kind", ["all.db", "hdf5", "lmdb"])
def test_fingerprints_of_lazy_sources_stay(files, kind):
    assert open_source(files[kind]).fingerprint() == open_source(files[kind]).fingerprint()


def test_other_formats_go_through_ase(files):
    source = open_source(files["all.traj"])
    assert len(source) == COUNT
    assert source[3].energy == REFERENCE[3].energy


def test_a_source_out_of_range_says_so(files):
    with pytest.raises(IndexError):
        open_source(files["hdf5"])[COUNT]


# What is wrong with a file is said in one sentence.


def test_a_missing_file_is_named_with_its_neighbor(files):
    path = files["all.xyz"].with_name("al.xyz")
    with pytest.raises(DataError, match=r"there is no file .*al\.xyz \(did you mean 'all.*\?\)"):
        open_source(path)


def test_a_pattern_without_a_match_is_named(tmp_path):
    with pytest.raises(DataError, match="no file matches"):
        open_source(tmp_path / "*.xyz")


@pytest.fixture
def xyz(tmp_path):
    """Write text to a file after two good frames."""
    good = write_extxyz(tmp_path / "good.xyz", STRUCTURES[:2]).read_text()

    def write_text(text: str) -> Path:
        path = tmp_path / "bad.xyz"
        path.write_text(good + text)
        return path

    return write_text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2\n\nH 0 0 0\nH 0 0 x\n", "could not convert string to float: 'x'"),
        ("3\n\nH 0 0 0\nH 0 0 1\n", "the file ends before its 3 atoms do"),
        ("1\n\nXx 0 0 0\n", "Xx"),
        ("two\n\nH 0 0 0\n", "expected the number of atoms, found 'two'"),
        ("1\n\nH 0 0 0\nH 0 0 1\n", None),
    ],
)
def test_an_unreadable_frame_is_named_by_its_index(xyz, text, reason):
    index = 2 if reason else 3
    reason = reason or "expected the number of atoms, found 'H 0 0 1'"
    with pytest.raises(
        DataError, match=rf"bad\.xyz, frame {index} \(counting from 0\) cannot be read: .*{reason}"
    ):
        open_source(xyz(text))


def test_an_infinite_label_is_named_by_its_frame(xyz):
    with pytest.raises(DataError, match=r"bad\.xyz, frame 2: 'energy' \(the energy\) is infinite"):
        open_source(xyz("1\nenergy=inf\nH 0 0 0\n"))


def test_blank_lines_between_frames_lose_nothing(xyz):
    assert len(open_source(xyz("\n\n1\n\nH 0 0 0\n\n"))) == 3


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.xyz").write_text("")
    with pytest.raises(DataError, match=r"empty\.xyz holds no frame"):
        open_source(tmp_path / "empty.xyz")


def test_an_unknown_format_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(DataError, match=r"notes\.txt, frame 0 .*cannot be read"):
        open_source(tmp_path / "notes.txt")


@pytest.mark.parametrize("kind", ["all.xyz", "all.db"])
def test_a_key_that_no_frame_has_is_an_error_with_the_nearest(files, kind):
    with pytest.raises(DataError, match=r"key 'energi' given for the energy \(did you mean 'energy'\?\)"):
        open_source(files[kind], LabelMap(energy="energi"))


@pytest.mark.parametrize("kind", ["all.xyz", "all.db"])
def test_a_key_that_some_frames_have_is_none(files, kind):
    source = open_source(files[kind], LabelMap(stress="stress"))
    assert [source[index].stress is None for index in range(4)] == [False, True, True, False]


def test_keys_do_not_apply_to_stores(files):
    with pytest.raises(DataError, match=r"is a store, .*leave out data\.keys"):
        open_source(files["hdf5"], LabelMap(energy="energy"))


def test_an_incomplete_store_is_refused(files, tmp_path):
    folder = tmp_path / "store"
    convert(files["all.xyz"], folder, shard_size=3)
    (folder / "shard-00001.h5").unlink()
    with pytest.raises(DataError, match=r"shard-00001\.h5 cannot be opened"):
        open_source(folder)


@pytest.mark.parametrize("name", ["all.h5", "all.lmdb"])
def test_a_shard_that_was_cut_is_refused(files, tmp_path, name):
    content = files[name].read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2] if name == "all.h5" else content[:100])
    with pytest.raises(DataError, match=rf"{name} cannot be opened"):
        open_source(tmp_path / name)


@pytest.mark.parametrize("name", ["all.h5", "all.lmdb"])
def test_damage_inside_a_shard_is_found_by_its_checksum(files, tmp_path, name):
    energy = np.float64(open_source(files[name])[4].energy)
    content = files[name].read_bytes()
    (tmp_path / name).write_bytes(content.replace(energy.tobytes(), np.nextafter(energy, 0).tobytes()))
    damaged = open_source(tmp_path / name)
    assert isinstance(damaged, ShardSource)
    with pytest.raises(DataError, match="is damaged"):
        damaged.verify()
    whole = open_source(files[name])
    assert isinstance(whole, ShardSource)
    whole.verify()


def test_hdf5_of_another_origin_is_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["positions"] = np.zeros((3, 3))
    with pytest.raises(DataError, match="was not written by nequip-data convert"):
        open_source(tmp_path / "other.h5")


def test_a_newer_version_is_refused(files, tmp_path):
    path = tmp_path / "new.h5"
    path.write_bytes(files["all.h5"].read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["e3forge"] = str(file.attrs["e3forge"]).replace('"version": 1', '"version": 4')
    with pytest.raises(DataError, match="is of version 4, newer than 3"):
        open_source(path)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"folder without store\.json"):
        open_source(tmp_path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "bad.db").write_text("this is not sqlite" * 100)
    with pytest.raises(DataError, match="cannot be read as an ASE database"):
        open_source(tmp_path / "bad.db")


def test_real_files_are_read(data_dir):
    silicon = open_source(data_dir / "mlearn_Si_test.xyz")
    assert isinstance(silicon[0], Frame)
    assert silicon[0].stress is not None
    assert silicon[0].stress[0, 1] == pytest.approx(0.00197150467)
    assert silicon[0].group == "Vacancy"


def test_two_usual_names_of_one_label_are_told_once(tmp_path, caplog):
    atoms = Atoms("H", info={"REF_energy": -1.0, "dft_energy": -2.0})
    write(tmp_path / "two.xyz", [atoms, atoms])
    with caplog.at_level("WARNING"):
        frame = open_source(tmp_path / "two.xyz")[0]
    assert frame.energy == -1.0
    assert [m for m in caplog.messages if "data.keys.energy=KEY" in m] == caplog.messages
    assert "REF_energy and dft_energy: REF_energy is taken" in caplog.messages[0]
