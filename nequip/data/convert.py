"""Any file of frames into a store, shard by shard, in several processes, resumable after a kill."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Protocol

from nequip.data.frame import Frame
from nequip.data.progress import progress
from nequip.data.sources import FrameSource, LabelMap, find_files, is_lazy, open_source
from nequip.data.sources.ase_files import UnparsedFrame, ase_files_fingerprint, unparsed_frames
from nequip.data.sources.labels import check_explicit_keys
from nequip.data.sources.store import (
    MANIFEST,
    MANIFEST_VERSION,
    SUFFIXES,
    Manifest,
    ShardSummary,
    StoreKind,
    open_store,
    read_manifest,
    shard_number,
    shard_path,
    store_kind,
    summarize,
    verified_summary,
    write_manifest,
    write_shard,
)
from nequip.data.workers import in_workers
from nequip.errors import DataError

SHARD_SIZE = 10_000
_READ_AT_ONCE = 500  # frames of a file that becomes one shard


def convert(
    path: str | Path,
    out: str | Path,
    *,
    labels: LabelMap | None = None,
    kind: StoreKind = "hdf5",
    shard_size: int = SHARD_SIZE,
    num_workers: int = 0,
) -> int:
    """Write the frames of `path` to the store `out` and return their number.

    `out` is a folder of shards with `shard_size` frames each, or, where its name ends in .h5 or
    .lmdb, one shard. `num_workers` processes write shards, each with one in memory and two waiting;
    0: this process does. A conversion that was killed goes on with the same call: whole shards are
    kept. Of a finished one, shards that are missing or cut are written again.

    Raises:
        DataError: for frames that cannot be read, keys that no frame has, a folder that holds
            something else, and a full disk.
    """
    labels = labels or LabelMap()
    files = find_files(path)
    if any(is_lazy(file) for file in files):
        origin: Origin = FromSource(open_source(path, labels))
    else:
        origin = _FromText(str(path), files, labels)
    return write_store(origin, out, kind=kind, shard_size=shard_size, num_workers=num_workers)


class Origin(Protocol):
    """Frames to be converted."""

    @property
    def name(self) -> str:
        """What messages call them."""
        ...

    def fingerprint(self) -> str:
        """Changes with the frames."""
        ...

    def num_frames(self) -> int | None:
        """None where only reading everything could tell."""
        ...

    def pieces(self, size: int, leave_out: Container[int]) -> Iterator[tuple[int, Piece]]:
        """The frames in runs of `size`, each with its number, without those numbered in `leave_out`."""
        ...

    def check_keys(self, keys: set[str]) -> None:
        """Raises DataError for a key given that is not among those of the frames."""
        ...


class Piece(Protocol):
    """Frames of one shard, to be read by the process that writes it."""

    def read(self) -> tuple[list[Frame], set[str]]:
        """The frames, and the keys that they have in the file."""
        ...


@dataclass(frozen=True)
class FromSource:
    """Frames that a source has by index."""

    source: FrameSource

    @property
    def name(self) -> str:
        return self.source.name

    def fingerprint(self) -> str:
        return self.source.fingerprint()

    def num_frames(self) -> int | None:
        return len(self.source)

    def pieces(self, size: int, leave_out: Container[int]) -> Iterator[tuple[int, Piece]]:
        for number, start in enumerate(range(0, len(self.source), size)):
            if number not in leave_out:
                yield number, _Rows(self.source, range(start, min(start + size, len(self.source))))

    def check_keys(self, keys: set[str]) -> None:
        pass  # the source has done so when it was opened


@dataclass(frozen=True)
class _Rows:
    source: FrameSource
    indices: range

    def read(self) -> tuple[list[Frame], set[str]]:
        return [self.source[index] for index in self.indices], set(self.source.label_keys())


@dataclass(frozen=True)
class _FromText:
    """Frames in text: one process cuts it, others make sense of it."""

    name: str
    files: list[Path]
    labels: LabelMap

    def fingerprint(self) -> str:
        return ase_files_fingerprint(self.files, self.labels)

    def num_frames(self) -> int | None:
        return None

    def pieces(self, size: int, leave_out: Container[int]) -> Iterator[tuple[int, Piece]]:
        frames = unparsed_frames(self.files)
        for number in count():
            if number in leave_out:
                next(islice(frames, size - 1, size), None)
            elif piece := list(islice(frames, size)):
                yield number, _Text(piece, self.labels)
            else:
                return

    def check_keys(self, keys: set[str]) -> None:
        check_explicit_keys(self.labels, keys, self.name)


@dataclass(frozen=True)
class _Text:
    frames: list[UnparsedFrame]
    labels: LabelMap

    def read(self) -> tuple[list[Frame], set[str]]:
        found = [frame.read(self.labels) for frame in self.frames]
        return [frame for frame, _ in found], set(chain.from_iterable(keys for _, keys in found))


def write_store(
    origin: Origin, out: str | Path, *, kind: StoreKind, shard_size: int, num_workers: int = 0
) -> int:
    """What `convert` does, for frames of any origin."""
    out = Path(out).expanduser()
    with _explained(out):
        if store_kind(out) is None:
            manifest = Manifest(MANIFEST_VERSION, kind, shard_size, origin.fingerprint())
            return _write_folder(origin, out, manifest, num_workers)
        return _write_file(origin, out, num_workers)


def _write_file(origin: Origin, out: Path, num_workers: int) -> int:
    frames: list[Frame] = []
    keys: set[str] = set()
    pieces = in_workers(_read, origin.pieces(_READ_AT_ONCE, ()), num_workers)
    label = f"converting {origin.name}"
    for some, their_keys in progress(pieces, label, origin.num_frames(), frames=lambda done: len(done[0])):
        frames += some
        keys |= their_keys
    if not frames:
        raise DataError(f"{origin.name} holds no frame.")
    origin.check_keys(keys)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_shard(out, frames, sorted(keys))
    return len(frames)


def _read(numbered: tuple[int, Piece]) -> tuple[list[Frame], set[str]]:
    return numbered[1].read()


def _write_folder(origin: Origin, out: Path, wanted: Manifest, num_workers: int) -> int:
    out.mkdir(parents=True, exist_ok=True)
    found = read_manifest(out)
    if found is None and any(out.iterdir()):
        raise DataError(f"{out} is not empty and holds no {MANIFEST}: name a new folder.")
    if found is not None and not _is_same(found, wanted):
        raise DataError(
            f"{out} holds the store of another file, or one with other keys or shards: "
            "name a new folder, or delete it."
        )
    if found is not None and found.num_frames is not None and _is_whole(out):
        return found.num_frames
    write_manifest(out, wanted)
    shards = _whole_shards(out, wanted, num_workers)
    kept = sum(shard.num_frames for shard in shards.values())
    total = origin.num_frames()
    writing = in_workers(
        partial(_write_numbered, out, wanted.kind), origin.pieces(wanted.shard_size, set(shards)), num_workers
    )
    left = None if total is None else total - kept
    shards |= progress(writing, f"converting {origin.name}", left, frames=lambda done: done[1].num_frames)
    if not shards:
        raise DataError(f"{origin.name} holds no frame.")
    summaries = [shards[number] for number in range(len(shards))]
    origin.check_keys({key for shard in summaries for key in shard.keys})
    num_frames = sum(shard.num_frames for shard in summaries)
    write_manifest(out, replace(wanted, num_frames=num_frames, shards=summaries))
    return num_frames


def _is_same(found: Manifest, wanted: Manifest) -> bool:
    return (found.kind, found.shard_size, found.source) == (wanted.kind, wanted.shard_size, wanted.source)


def _is_whole(out: Path) -> bool:
    try:
        open_store(out)
    except DataError:
        return False
    return True


def _whole_shards(out: Path, manifest: Manifest, num_workers: int) -> dict[int, ShardSummary]:
    """Shards that an earlier run has finished, by number; checksums compared."""
    paths = sorted(out.glob(f"shard-*{SUFFIXES[manifest.kind]}"))
    verified = in_workers(verified_summary, paths, num_workers)
    whole: dict[int, ShardSummary] = {}
    for path, shard in zip(paths, progress(verified, "checking shards", frames=_frames_of), strict=True):
        if shard is not None and shard.num_frames == manifest.shard_size:
            whole[shard_number(path)] = shard
    return whole


def _frames_of(shard: ShardSummary | None) -> int:
    return 0 if shard is None else shard.num_frames


def _write_numbered(out: Path, kind: StoreKind, numbered: tuple[int, Piece]) -> tuple[int, ShardSummary]:
    number, piece = numbered
    frames, keys = piece.read()
    path = shard_path(out, kind, number)
    with _explained(out):
        write_shard(path, frames, sorted(keys))
    return number, summarize(path)


@contextmanager
def _explained(out: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{out} cannot be written ({error}): whole shards are kept, the same command goes on from there."
        ) from error
