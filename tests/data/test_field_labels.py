"""Dipoles, polarizabilities and Born charges: read from files, kept in stores, joined in batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write

from nequip.data.frame import Frame
from nequip.data.graph import collate
from nequip.data.neighbors import Cutoffs, TypeMapper, build_graph
from nequip.data.sources import LabelMap, open_source
from nequip.data.sources.store import open_store, read_shard_meta, write_shard
from nequip.errors import DataError

LABELS = ("dipole", "polarizability", "born_charges")


def labelled(seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    alpha = rng.normal(size=(3, 3))
    return Frame(
        np.array([8, 1, 1]),
        rng.normal(size=(3, 3)) + np.arange(3)[:, None],
        dipole=rng.normal(size=3),
        polarizability=alpha + alpha.T,
        born_charges=rng.normal(size=(3, 3, 3)),
    )


def bare() -> Frame:
    return Frame(np.array([8, 1]), np.array([[0.0, 0, 0], [1.0, 0, 0]]))


def as_atoms(frame: Frame, prefix: str = "") -> Atoms:
    atoms = Atoms(frame.numbers, frame.positions)
    atoms.info |= {f"{prefix}dipole": frame.dipole, f"{prefix}polarizability": frame.polarizability}
    atoms.arrays[f"{prefix}born_charges"] = frame.born_charges.reshape(3, 9)
    return atoms


@pytest.mark.parametrize("prefix", ["", "REF_", "my_"])
def test_labels_are_read_from_extxyz(tmp_path: Path, prefix: str):
    frame = labelled()
    write(tmp_path / "frames.xyz", as_atoms(frame, prefix), format="extxyz")
    keys = {label: f"my_{label}" for label in LABELS} if prefix == "my_" else {}
    found = open_source(tmp_path / "frames.xyz", LabelMap(**keys))[0]
    for label in LABELS:
        assert np.allclose(getattr(found, label), getattr(frame, label), rtol=0, atol=1e-7)


def test_a_dipole_of_two_numbers_is_refused(tmp_path: Path):
    atoms = Atoms("H", info={"REF_dipole": np.array([1.0, 2.0])})
    write(tmp_path / "frames.xyz", atoms, format="extxyz")
    with pytest.raises(DataError, match=r"\(the dipole\) has 2 numbers, expected 3"):
        open_source(tmp_path / "frames.xyz")[0]


@pytest.mark.parametrize("suffix", [".h5", ".lmdb"])
def test_stores_keep_them_and_say_so(tmp_path: Path, suffix: str):
    frames = [bare(), labelled(1), bare(), labelled(2)]
    write_shard(tmp_path / f"shard{suffix}", frames, [])
    store = open_store(tmp_path / f"shard{suffix}")
    assert set(LABELS) <= set(store.label_keys())
    store.verify()
    for index, frame in enumerate(frames):
        for label in LABELS:
            found, given = getattr(store[index], label), getattr(frame, label)
            assert found is None if given is None else np.array_equal(found, given)


@pytest.mark.parametrize("suffix", [".h5", ".lmdb"])
def test_stores_without_them_stay_of_the_first_version(tmp_path: Path, suffix: str):
    write_shard(tmp_path / f"shard{suffix}", [bare()], [])
    assert read_shard_meta(tmp_path / f"shard{suffix}").version == 1


def test_frames_without_labels_are_nan_in_a_batch_and_none_where_all_are():
    mapper, cutoffs = TypeMapper(("H", "O")), Cutoffs(3.0)
    graphs = [build_graph(frame, mapper, cutoffs) for frame in (bare(), labelled(), bare())]
    joined = collate(graphs).labels
    assert joined.dipole.shape == (3, 3)
    assert joined.polarizability.shape == (3, 3, 3)
    assert joined.born_charges.shape == (7, 3, 3)
    assert joined.dipole.isnan().all(1).tolist() == [True, False, True]
    assert joined.born_charges.isnan().flatten(1).all(1).tolist() == [True] * 2 + [False] * 3 + [True] * 2
    assert torch.equal(joined.dipole[1], graphs[1].labels.dipole[0])
    assert collate(graphs[::2]).labels.dipole is None
