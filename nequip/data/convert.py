"""Any file of frames into a store, shard by shard, resumable after a kill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from nequip.data.frame import Frame
from nequip.data.progress import progress
from nequip.data.sources import FrameSource, LabelMap, find_files, is_lazy, open_source
from nequip.data.sources.ase_files import FrameStream, ase_files_fingerprint
from nequip.data.sources.labels import check_explicit_keys
from nequip.data.sources.store import (
    MANIFEST,
    VERSION,
    Manifest,
    ShardSource,
    StoreKind,
    read_manifest,
    shard_path,
    store_kind,
    write_manifest,
    write_shard,
)
from nequip.errors import DataError

SHARD_SIZE = 10_000


def convert(
    path: str | Path,
    out: str | Path,
    *,
    labels: LabelMap | None = None,
    kind: StoreKind = "hdf5",
    shard_size: int = SHARD_SIZE,
) -> int:
    """Write the frames of `path` to the store `out` and return their number.

    `out` is a folder of shards with `shard_size` frames each, or, where its name ends in .h5 or
    .lmdb, one shard. No more than one shard is in memory. A conversion that was killed goes on
    with the same call: whole shards are kept.

    Raises:
        DataError: for frames that cannot be read, keys that no frame has, a folder that holds
            something else, and a full disk.
    """
    origin = _Origin(str(path), labels or LabelMap())
    out = Path(out).expanduser()
    manifest = Manifest(VERSION, kind, shard_size, origin.fingerprint())
    try:
        return _write_folder(origin, out, manifest) if store_kind(out) is None else _write_file(origin, out)
    except OSError as error:
        raise DataError(
            f"{out} cannot be written ({error}): whole shards are kept, the same command goes on from there."
        ) from error


class _Origin:
    """Frames to be converted: streamed from text, or read from a source that has them by index."""

    def __init__(self, path: str, labels: LabelMap):
        self.path, self.labels = path, labels
        self._files = find_files(path)
        lazy = any(is_lazy(file) for file in self._files)
        self._source: FrameSource | None = open_source(path, labels) if lazy else None
        self._keys: set[str] = set(self._source.label_keys()) if self._source else set()

    def fingerprint(self) -> str:
        if self._source is not None:
            return self._source.fingerprint()
        return ase_files_fingerprint(self._files, self.labels)

    def frames(self, start: int) -> Iterator[Frame]:
        """Those from number `start` on."""
        if self._source is not None:
            total = len(self._source)
            frames = (self._source[index] for index in range(start, total))
            return progress(frames, "converting", total - start)
        stream = FrameStream(self._files, self.labels, start)
        self._keys = stream.keys_seen
        return progress(stream, "converting")

    def keys(self) -> list[str]:
        """Keys of the frames read so far."""
        return sorted(self._keys)

    def check_keys(self, others: Iterable[str]) -> None:
        """Raises DataError for a key given that neither the frames read nor `others` have."""
        if self._source is None:
            check_explicit_keys(self.labels, self._keys.union(others), self.path)


def _write_file(origin: _Origin, out: Path) -> int:
    frames = list(origin.frames(0))
    if not frames:
        raise DataError(f"{origin.path} holds no frame.")
    origin.check_keys(())
    out.parent.mkdir(parents=True, exist_ok=True)
    write_shard(out, frames, origin.keys())
    return len(frames)


def _write_folder(origin: _Origin, out: Path, wanted: Manifest) -> int:
    out.mkdir(parents=True, exist_ok=True)
    found = read_manifest(out)
    if found is None and any(out.iterdir()):
        raise DataError(f"{out} is not empty and holds no {MANIFEST}: name a new folder.")
    if found is not None and replace(found, num_frames=None) != wanted:
        raise DataError(
            f"{out} holds the store of another file, or one with other keys or shards: "
            "name a new folder, or delete it."
        )
    if found is not None and found.num_frames is not None:
        return found.num_frames
    write_manifest(out, wanted)
    whole = list(_whole_shards(out, wanted))
    num_frames = len(whole) * wanted.shard_size
    frames = origin.frames(num_frames)
    number = len(whole)
    while shard := list(islice(frames, wanted.shard_size)):
        write_shard(shard_path(out, wanted.kind, number), shard, origin.keys())
        num_frames, number = num_frames + len(shard), number + 1
    if num_frames == 0:
        raise DataError(f"{origin.path} holds no frame.")
    origin.check_keys(key for shard in whole for key in shard.meta.keys)
    write_manifest(out, replace(wanted, num_frames=num_frames))
    return num_frames


def _whole_shards(folder: Path, manifest: Manifest) -> Iterator[ShardSource]:
    """Shards at the beginning that an earlier run has finished, checksums compared."""
    number = 0
    while (path := shard_path(folder, manifest.kind, number)).exists():
        try:
            shard = ShardSource(path)
            shard.verify()
        except DataError:
            return
        if len(shard) < manifest.shard_size:
            return
        yield shard
        number += 1
