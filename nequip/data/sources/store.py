"""Stores: sets larger than memory, as shards that each hold a run of frames.

A store is one shard (`.h5` or `.lmdb`), or a folder of them with a manifest `store.json`. A shard is
written under another name and renamed, holds a checksum of its content, and never changes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nequip.data.frame import Frame
from nequip.data.sources import hdf5, lmdb
from nequip.data.sources.columns import (
    FIELD_ATOM_COLUMNS,
    FIELD_FRAME_COLUMNS,
    HESSIAN,
    Columns,
    checksum,
    pack,
    unpack,
)
from nequip.data.sources.source import ConcatSource, IntArray, PerProcess
from nequip.errors import DataError

StoreKind = Literal["hdf5", "lmdb"]

SUFFIXES: dict[StoreKind, str] = {"hdf5": ".h5", "lmdb": ".lmdb"}
MANIFEST = "store.json"
VERSION = 1
HESSIAN_VERSION = 2  # of shards with Hessians, which earlier releases cannot read
FIELD_VERSION = 3  # of shards with dipoles, polarizabilities or Born charges


@dataclass(frozen=True)
class ShardMeta:
    """What a shard says of itself."""

    version: int
    num_frames: int
    checksum: str
    group_names: list[str]
    labels: list[str]  # those that some frame has
    keys: list[str]  # all keys of the frames in the file that was converted


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards says of itself; `num_frames` is None while it is being written."""

    version: int
    kind: StoreKind
    shard_size: int
    source: str  # fingerprint of what was converted
    num_frames: int | None = None


class _Reader(Protocol):
    def column(self, name: str) -> NDArray[Any]: ...

    def frame(self, index: int, start: int, stop: int) -> Columns: ...


class ShardSource:
    """The frames of one shard, read as they are asked for."""

    def __init__(self, path: Path):
        self.name = str(path)
        self.meta = read_shard_meta(path)
        reader = hdf5.Reader if store_kind(path) == "hdf5" else lmdb.Reader
        self._reader: PerProcess[_Reader] = PerProcess(partial(reader, path))
        self._num_atoms = self._reader.get().column("num_atoms")
        self._ends = np.cumsum(self._num_atoms)

    def __len__(self) -> int:
        return self.meta.num_frames

    def __getitem__(self, index: int) -> Frame:
        return unpack(self._columns(index), self.meta.group_names)

    def num_atoms(self) -> IntArray:
        return self._num_atoms

    def groups(self) -> list[str]:
        return [self.meta.group_names[index] for index in self._reader.get().column("group").tolist()]

    def elements(self, indices: IntArray) -> set[int]:
        wanted = np.zeros(len(self), dtype=bool)
        wanted[indices] = True
        numbers = self._reader.get().column("numbers")
        return set(np.unique(numbers[np.repeat(wanted, self._num_atoms)]).tolist())

    def fingerprint(self) -> str:
        return self.meta.checksum

    def label_keys(self) -> list[str]:
        return self.meta.labels

    def verify(self) -> None:
        """Read everything and raise DataError where it is not what was written."""
        if checksum(self._columns(index) for index in range(len(self))) != self.meta.checksum:
            raise DataError(f"{self.name} is damaged (its checksum is wrong): delete it and convert again.")

    def _columns(self, index: int) -> Columns:
        stop = int(self._ends[index])
        return self._reader.get().frame(index, stop - int(self._num_atoms[index]), stop)


def store_kind(path: Path) -> StoreKind | None:
    """What the suffix says of a shard; None for any other file."""
    kinds: dict[str, StoreKind] = {".h5": "hdf5", ".hdf5": "hdf5", ".lmdb": "lmdb"}
    return kinds.get(path.suffix.lower())


def is_store(path: Path) -> bool:
    """Whether `path` is to be opened by `open_store`."""
    return path.is_dir() or store_kind(path) is not None


def open_store(path: Path) -> ShardSource | ConcatSource:
    """A shard, or all the shards of a folder.

    Raises:
        DataError: for a folder that is no store or whose conversion has not finished, and for
            shards that are missing, cut, or of a newer version.
    """
    if not path.is_dir():
        return ShardSource(path)
    manifest = read_manifest(path)
    if manifest is None:
        raise DataError(
            f"{path} is a folder without {MANIFEST}, not a store: name a file, a pattern "
            "such as 'DIR/*.xyz', or the output of nequip-data convert."
        )
    if manifest.num_frames is None:
        raise DataError(f"{path} is not complete: run the same nequip-data convert again, it goes on.")
    count = -(-manifest.num_frames // manifest.shard_size)
    shards = [ShardSource(shard_path(path, manifest.kind, number)) for number in range(count)]
    if sum(len(shard) for shard in shards) != manifest.num_frames:
        raise DataError(f"{path} does not hold the {manifest.num_frames} frames that {MANIFEST} promises.")
    return ConcatSource(str(path), shards)


def shard_path(folder: Path, kind: StoreKind, number: int) -> Path:
    """Where shard `number` of a store lies."""
    return folder / f"shard-{number:05d}{SUFFIXES[kind]}"


def write_shard(path: Path, frames: Sequence[Frame], keys: Sequence[str]) -> None:
    """Put `frames` into one shard; `path` appears whole or not at all."""
    group_names = sorted({frame.group for frame in frames})
    columns = pack(frames, group_names)
    labels = [
        label
        for label in ("energy", "forces", "stress", "hessian", *FIELD_FRAME_COLUMNS, *FIELD_ATOM_COLUMNS)
        if any(getattr(frame, label) is not None for frame in frames)
    ]
    version = HESSIAN_VERSION if HESSIAN in columns else VERSION
    if columns.keys() & {*FIELD_FRAME_COLUMNS, *FIELD_ATOM_COLUMNS}:
        version = FIELD_VERSION
    meta = ShardMeta(version, len(frames), checksum([columns]), group_names, labels, sorted(keys))
    part = path.with_name(f"{path.name}.part")
    backend = hdf5 if store_kind(path) == "hdf5" else lmdb
    backend.write(part, columns, json.dumps(asdict(meta)))
    os.replace(part, path)


def read_shard_meta(path: Path) -> ShardMeta:
    """Raises DataError for a file that cannot be opened, is no shard, or is of a newer version."""
    backend = hdf5 if store_kind(path) == "hdf5" else lmdb
    try:
        text = backend.read_meta(path)
    except (OSError, lmdb.Error) as error:
        raise DataError(f"{path} cannot be opened ({error}): it is missing, cut or damaged.") from error
    if text is None:
        raise DataError(
            f"{path} was not written by nequip-data convert: read its frames with ASE and write extxyz, "
            "which can be converted."
        )
    meta = json.loads(text)
    if meta["version"] > FIELD_VERSION:
        raise DataError(
            f"{path} is of version {meta['version']}, newer than {FIELD_VERSION}, the last that this "
            "release reads: update e3forge."
        )
    return ShardMeta(**meta)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a store, None where there is none.

    Raises:
        DataError: for one that cannot be read.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = Manifest(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of a store."""
    part = folder / f"{MANIFEST}.part"
    part.write_text(json.dumps(asdict(manifest), indent=2) + "\n")
    os.replace(part, folder / MANIFEST)
