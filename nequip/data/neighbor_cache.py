"""Neighbor lists on disk, block by block, and a small table of all frames that processes share.

A cache is a folder, named by what its content depends on:

    00000.edges   edges of the frames of one block, one frame after the other
    00000.npz     the part of the table that belongs to it, and what statistics need of its frames
    index.npy     the table, one `RECORD` for each frame: mapped, so that all processes have it once
    indices.npy   where every frame is in its source: mapped, too
    totals.npz    what statistics need of all frames

A file appears whole or not at all, so that a scan goes on after a kill, and several processes may
write one cache: a block that another has finished is left alone.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from nequip.data.neighbors import IntArray, Neighbors
from nequip.errors import DataError

BLOCK = 4096  # frames
RECORD = np.dtype(
    [
        ("start", "<i8"),  # byte of its block where its edges begin
        ("num_edges", "<i4"),
        ("num_atoms", "<i4"),
        ("crc", "<u4"),
        ("wide", "?"),
    ]
)
# Center, neighbor and shift of an edge: nearly every frame fits into the first.
_NARROW = np.dtype([("pair", "<u2", 2), ("shift", "i1", 3)])
_WIDE = np.dtype([("pair", "<i4", 2), ("shift", "<i4", 3)])

Arrays = Mapping[str, NDArray[Any]]
Table = NDArray[np.void]  # of RECORDs


class NeighborCache:
    """The table of all frames, and their edges where there is a folder to read them from."""

    def __init__(self, table: Table, folder: Path | None):
        self._table = table
        self._folder = folder

    def num_atoms(self, positions: IntArray) -> IntArray:
        """Atoms of these frames."""
        return self._table["num_atoms"][positions].astype(np.int64)

    def num_edges(self, positions: IntArray) -> IntArray:
        """Edges of these frames."""
        return self._table["num_edges"][positions].astype(np.int64)

    def __getitem__(self, position: int) -> Neighbors | None:
        """Edges of a frame; None where they were not kept.

        Raises:
            DataError: for edges that are not what was written.
        """
        if self._folder is None:
            return None
        record = self._table[position]
        path = self._folder / _edges_name(position // BLOCK)
        dtype = _WIDE if record["wide"] else _NARROW
        try:
            # Read, not mapped: mapped pages stay in the resident memory of the process.
            edges = np.fromfile(path, dtype, int(record["num_edges"]), offset=int(record["start"]))
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({error.strerror}): start again, which makes it anew."
            ) from error
        if zlib.crc32(edges.tobytes()) != record["crc"]:
            raise DataError(f"{path} is damaged (a checksum is wrong): delete it, and it is made anew.")
        center, neighbor = edges["pair"].T.astype(np.int64)
        return Neighbors(center, neighbor, edges["shift"].astype(np.int64))

    def __getstate__(self) -> dict[str, Any]:
        """Without the table where it can be mapped again: a pickle would hold a copy."""
        return {"_table": self._table if self._folder is None else None, "_folder": self._folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        if self._folder is not None:
            self._table = np.load(self._folder / "index.npy", mmap_mode="r")


class BlockWriter:
    """Takes in the frames of a block, one after the other; without a file it only counts."""

    def __init__(self, file: BinaryIO | None = None):
        self._file = file
        self._records: list[tuple[int, int, int, int, bool]] = []
        self._end = 0

    def add(self, num_atoms: int, neighbors: Neighbors) -> None:
        """Append a frame."""
        edges = _packed(neighbors)
        content = edges.tobytes()
        self._records.append((self._end, len(edges), num_atoms, zlib.crc32(content), edges.dtype == _WIDE))
        self._end += len(content)
        if self._file is not None:
            with _explained(Path(self._file.name).parent):
                self._file.write(content)

    def table(self) -> Table:
        """The records of the frames so far."""
        return np.array(self._records, RECORD)


class CacheFolder:
    """The files of a cache of `num_frames` frames; those that write raise DataError for a full disk."""

    def __init__(self, path: Path, num_frames: int):
        self.path = path
        self._num_frames = num_frames

    def open(self) -> tuple[NeighborCache, IntArray, Arrays] | None:
        """The cache, the indices of its frames and the totals; None where something is missing or cut."""
        try:
            table = np.load(self.path / "index.npy", mmap_mode="r")
            indices = np.load(self.path / "indices.npy", mmap_mode="r")
            totals = _load(self.path / "totals.npz")
            last = [positions[-1] for positions in blocks(self._num_frames)]
            whole = (totals["crc"] == self._mapped_crc()).all()
            if not whole or not all(self._has_edges(block, table[end]) for block, end in enumerate(last)):
                return None
        except _DAMAGE:
            return None
        return NeighborCache(table, self.path), indices, totals

    def block(self, block: int) -> Arrays | None:
        """What a finished block holds besides edges; None for one that is missing, cut or damaged."""
        try:
            arrays = _load(self.path / f"{block:05d}.npz")
            return arrays if self._has_edges(block, arrays["table"][-1]) else None
        except _DAMAGE:
            return None

    @contextmanager
    def writing(self, block: int) -> Generator[BlockWriter]:
        """Edges of a block."""
        with self._replacing(_edges_name(block)) as file:
            yield BlockWriter(file)

    def finish_block(self, block: int, arrays: Arrays) -> None:
        """The block is whole with these."""
        with self._replacing(f"{block:05d}.npz") as file:
            _save(file, arrays)

    def finish(self, indices: IntArray, total: Callable[[Iterable[Arrays]], Arrays]) -> None:
        """The cache is whole, all blocks being finished; `total` takes what they hold together."""
        with self._replacing("indices.npy") as file:
            np.save(file, indices)
        with self._replacing("index.npy") as file:
            header = {"descr": RECORD.descr, "fortran_order": False, "shape": (self._num_frames,)}
            np.lib.format.write_array_header_1_0(file, header)
            totals = total(self._blocks(file))
        with self._replacing("totals.npz") as file:
            _save(file, {"crc": self._mapped_crc(), **totals})

    def _blocks(self, table: BinaryIO) -> Iterator[Arrays]:
        """What all blocks hold; their parts of the table go to `table` as they pass by."""
        for number, _ in enumerate(blocks(self._num_frames)):
            arrays = self.block(number)
            if arrays is None:
                raise DataError(f"{self.path} was changed while it was written: start again.")
            with _explained(self.path):
                table.write(arrays["table"].tobytes())
            yield arrays

    def _mapped_crc(self) -> IntArray:
        return np.array([_crc(self.path / name) for name in ("index.npy", "indices.npy")])

    def _has_edges(self, block: int, last: np.void) -> bool:
        size = (_WIDE if last["wide"] else _NARROW).itemsize * int(last["num_edges"])
        return (self.path / _edges_name(block)).stat().st_size == last["start"] + size

    @contextmanager
    def _replacing(self, name: str) -> Generator[BinaryIO]:
        """A file under another name, which gets its own when all is written."""
        with _explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        part = self.path / f"{name}.{uuid4().hex}.part"
        try:
            with part.open("xb") as file:
                yield file
            os.replace(part, self.path / name)
        except BaseException as error:
            with suppress(OSError):
                part.unlink()
                self.path.rmdir()  # where nothing else is in it
            if isinstance(error, OSError):
                raise _full(self.path, error) from error
            raise


def blocks(num_frames: int) -> list[range]:
    """Positions of the frames of every block."""
    return [range(start, min(start + BLOCK, num_frames)) for start in range(0, num_frames, BLOCK)]


_DAMAGE = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)


def _load(path: Path) -> Arrays:
    with path.open("rb") as file, np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _save(file: BinaryIO, arrays: Mapping[str, Any]) -> None:
    np.savez(file, **arrays)


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            crc = zlib.crc32(part, crc)
    return crc


def _edges_name(block: int) -> str:
    return f"{block:05d}.edges"


def _packed(neighbors: Neighbors) -> NDArray[np.void]:
    shift, largest = neighbors.shift, max(neighbors.center.max(initial=0), neighbors.neighbor.max(initial=0))
    fits = largest < 1 << 16 and shift.min(initial=0) >= -128 and shift.max(initial=0) < 128
    edges = np.empty(len(neighbors.center), _NARROW if fits else _WIDE)
    edges["pair"][:, 0], edges["pair"][:, 1] = neighbors.center, neighbors.neighbor
    edges["shift"] = shift
    return edges


@contextmanager
def _explained(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise _full(folder, error) from error


def _full(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"neighbor lists cannot be written to {folder.parent} ({error.strerror or error}): "
        "make room there, or name another data.cache_dir."
    )
