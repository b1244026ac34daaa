"""Stores: sets larger than memory, as shards that each hold a run of frames.

A store is one shard (`.h5` or `.lmdb`), or a folder of them with a manifest `store.json`. A shard is
written under another name and renamed, holds a checksum of its content, and never changes.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
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
from nequip.data.sources.source import ConcatSource, IntArray, PerProcess, find_isolated
from nequip.errors import DataError

StoreKind = Literal["hdf5", "lmdb"]

SUFFIXES: dict[StoreKind, str] = {"hdf5": ".h5", "lmdb": ".lmdb"}
MANIFEST = "store.json"
VERSION = 1
MANIFEST_VERSION = 2  # 1 did not say what is in the shards
MAX_OPEN = 256  # shards, and so files, that a process holds open
_AGAIN = "give the same nequip-data convert again, which replaces what is damaged"
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
    keys: list[str]  # of the frames in the file that was converted


@dataclass(frozen=True)
class ShardSummary:
    """What a store knows of a shard without opening it."""

    size: int  # of the file, bytes
    num_frames: int
    checksum: str
    group_names: list[str]
    labels: list[str]
    keys: list[str]
    elements: list[int]
    isolated: list[int]  # frames that are isolated atoms


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards says of itself; `shards` are None while it is being written."""

    version: int
    kind: StoreKind
    shard_size: int
    source: str  # fingerprint of what was converted
    num_frames: int | None = None
    shards: list[ShardSummary] | None = None  # None in finished stores of version 1, too


class _Reader(Protocol):
    def column(self, name: str) -> NDArray[Any]: ...

    def frame(self, index: int) -> Columns: ...

    def parts(self) -> Iterator[Columns]: ...

    def close(self) -> None: ...


class OpenShards:
    """The shards that a process has open: those used last, so that files and memory are bounded."""

    def __init__(self) -> None:
        self._readers: OrderedDict[str, _Reader] = OrderedDict()

    def get(self, path: str, checksum: str) -> _Reader:
        """Raises DataError for a shard that is damaged, or not the one that has `checksum`."""
        if path in self._readers:
            self._readers.move_to_end(path)
            return self._readers[path]
        if read_shard_meta(Path(path)).checksum != checksum:
            raise DataError(f"{path} has changed since {MANIFEST} was written: convert to a new folder.")
        if len(self._readers) == MAX_OPEN:
            self._readers.popitem(last=False)[1].close()
        reader = hdf5.Reader if store_kind(Path(path)) == "hdf5" else lmdb.Reader
        self._readers[path] = reader(Path(path))
        return self._readers[path]


class ShardSource:
    """The frames of one shard, which is opened when the first is asked for."""

    def __init__(self, path: Path, summary: ShardSummary, opened: PerProcess[OpenShards]):
        self.name = str(path)
        self.summary = summary
        self._opened = opened

    def __len__(self) -> int:
        return self.summary.num_frames

    def __getitem__(self, index: int) -> Frame:
        try:
            rows = self._reader().frame(index)
        except (OSError, KeyError, lmdb.Error) as error:
            raise DataError(
                f"{self.name}, frame {index} cannot be read ({error}): the file was cut or damaged while it "
                f"was in use, so copy it again, or {_AGAIN}."
            ) from error
        return unpack(rows, self.summary.group_names)

    def num_atoms(self) -> IntArray:
        return self._reader().column("num_atoms")

    def groups(self) -> list[str]:
        return [self.summary.group_names[index] for index in self._reader().column("group").tolist()]

    def group_names(self, indices: IntArray) -> set[str]:
        names = self.summary.group_names
        if len(names) == 1:
            return set(names)
        return {names[index] for index in np.unique(self._reader().column("group")[indices]).tolist()}

    def isolated(self) -> IntArray:
        return np.array(self.summary.isolated, dtype=np.int64)

    def elements(self, indices: IntArray) -> set[int]:
        """Atomic numbers in some of the frames."""
        if len(indices) == len(self):
            return set(self.summary.elements)
        wanted = np.zeros(len(self), dtype=bool)
        wanted[indices] = True
        numbers = self._reader().column("numbers")
        return set(np.unique(numbers[np.repeat(wanted, self.num_atoms())]).tolist())

    def fingerprint(self) -> str:
        return self.summary.checksum

    def label_keys(self) -> list[str]:
        return self.summary.labels

    def verify(self) -> None:
        """Read everything and raise DataError where it is not what was written."""
        if checksum(self._reader().parts()) != self.summary.checksum:
            raise DataError(f"{self.name} is damaged (its checksum is wrong): delete it and convert again.")

    def _reader(self) -> _Reader:
        return self._opened.get().get(self.name, self.summary.checksum)


class StoreSource(ConcatSource):
    """The shards of a folder; what summaries answer opens none of them."""

    sources: list[ShardSource]

    def group_names(self, indices: IntArray) -> set[str]:
        """Groups of some of the frames."""
        found: set[str] = set()
        for part, local in self.by_part(indices):
            if not found.issuperset(self.sources[part].summary.group_names):
                found |= self.sources[part].group_names(local)
        return found

    def elements(self, indices: IntArray) -> set[int]:
        """Atomic numbers in some of the frames; rows are read where a shard may have another one."""
        found: set[int] = set()
        for part, local in self.by_part(indices):
            if not found.issuperset(self.sources[part].summary.elements):
                found |= self.sources[part].elements(local)
        return found


def store_kind(path: Path) -> StoreKind | None:
    """What the suffix says of a shard; None for any other file."""
    kinds: dict[str, StoreKind] = {".h5": "hdf5", ".hdf5": "hdf5", ".lmdb": "lmdb"}
    return kinds.get(path.suffix.lower())


def is_store(path: Path) -> bool:
    """Whether `path` is to be opened by `open_store`."""
    return path.is_dir() or store_kind(path) is not None


def open_store(path: Path) -> ShardSource | StoreSource:
    """A shard, or all the shards of a folder.

    Raises:
        DataError: for a folder that is no store or whose conversion has not finished, and for
            shards that are missing, cut, or of a newer version.
    """
    opened = PerProcess(OpenShards)
    if not path.is_dir():
        return ShardSource(path, summarize(path), opened)
    manifest = read_manifest(path)
    if manifest is None:
        raise DataError(
            f"{path} is a folder without {MANIFEST}, not a store: name a file, a pattern "
            "such as 'DIR/*.xyz', or the output of nequip-data convert."
        )
    if manifest.num_frames is None:
        raise DataError(f"{path} is not complete: run the same nequip-data convert again, it goes on.")
    count = -(-manifest.num_frames // manifest.shard_size)
    paths = [shard_path(path, manifest.kind, number) for number in range(count)]
    summaries = manifest.shards or [summarize(shard) for shard in paths]
    for shard, summary in zip(paths, summaries, strict=True):
        check_size(shard, summary)
    if sum(summary.num_frames for summary in summaries) != manifest.num_frames:
        raise DataError(f"{path} does not hold the {manifest.num_frames} frames that {MANIFEST} promises.")
    shards = [ShardSource(shard, summary, opened) for shard, summary in zip(paths, summaries, strict=True)]
    return StoreSource(str(path), shards)


def check_size(path: Path, summary: ShardSummary) -> None:
    """Raises DataError for a shard that is missing, or whose file is not as long as it was."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}): copy it again, or {_AGAIN}.") from error
    if size != summary.size:
        raise DataError(
            f"{path} has {size} bytes, but {summary.size} were written: it was cut short or changed, "
            f"so copy it again, or {_AGAIN}."
        )


def summarize(path: Path) -> ShardSummary:
    """What the manifest of a store says of a shard, from the shard itself.

    Raises:
        DataError: as `read_shard_meta`.
    """
    meta = read_shard_meta(path)
    reader = OpenShards().get(str(path), meta.checksum)
    groups = [meta.group_names[index] for index in reader.column("group").tolist()]
    summary = ShardSummary(
        size=path.stat().st_size,
        num_frames=meta.num_frames,
        checksum=meta.checksum,
        group_names=meta.group_names,
        labels=meta.labels,
        keys=meta.keys,
        elements=np.unique(reader.column("numbers")).tolist(),
        isolated=find_isolated(reader.column("num_atoms"), groups).tolist(),
    )
    reader.close()
    return summary


def shard_path(folder: Path, kind: StoreKind, number: int) -> Path:
    """Where shard `number` of a store lies."""
    return folder / f"shard-{number:05d}{SUFFIXES[kind]}"


def shard_number(path: Path) -> int:
    """The number in the name that `shard_path` gave."""
    return int(path.stem.removeprefix("shard-"))


def verified_summary(path: Path) -> ShardSummary | None:
    """The summary of a shard whose whole content is what was written, else None."""
    try:
        summary = summarize(path)
        ShardSource(path, summary, PerProcess(OpenShards)).verify()
    except DataError:
        return None
    return summary


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
        content = json.loads(path.read_text())
        shards = content.pop("shards", None)
        manifest = Manifest(**content, shards=shards and [ShardSummary(**shard) for shard in shards])
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest of a store."""
    part = folder / f"{MANIFEST}.part"
    part.write_text(json.dumps(asdict(manifest)) + "\n")
    os.replace(part, folder / MANIFEST)
