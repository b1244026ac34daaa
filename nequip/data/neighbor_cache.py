"""Neighbor lists on disk: flat arrays, written while the frames stream by, read slice by slice.

A cache is a folder, named by what its content depends on, that appears whole or not at all:

    meta.json     number of frames, checksums
    offsets.npy   [frame+1] int64: edges of frame f are offsets[f]:offsets[f+1]
    edges.bin     [edge, 5] int32: center, neighbor, shift
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from nequip.data.neighbors import IntArray, Neighbors
from nequip.errors import DataError

META, OFFSETS, EDGES = "meta.json", "offsets.npy", "edges.bin"
_VERSION = 2
_EDGE = np.dtype((np.int32, 5))  # center, neighbor, shift


class NeighborCache:
    """A finished cache. It holds no file open, so it can be pickled and forked."""

    def __init__(self, folder: Path, offsets: IntArray):
        self.folder = folder
        self.offsets = offsets

    def num_edges(self) -> IntArray:
        """Edges of every frame."""
        return np.diff(self.offsets)

    def __getitem__(self, frame: int) -> Neighbors:
        start, stop = int(self.offsets[frame]), int(self.offsets[frame + 1])
        # Read, not mapped: mapped pages stay in the resident memory of the process.
        edges = np.fromfile(self.folder / EDGES, _EDGE, stop - start, offset=start * _EDGE.itemsize)
        edges = edges.astype(np.int64)
        return Neighbors(edges[:, 0], edges[:, 1], edges[:, 2:])


def open_neighbor_cache(folder: Path, num_frames: int) -> NeighborCache | None:
    """The cache in `folder`, or None where there is none or where it is damaged or cut."""
    try:
        meta = json.loads((folder / META).read_text())
        if meta["version"] != _VERSION or meta["num_frames"] != num_frames:
            return None
        if any(_crc(folder / name) != meta["crc"][name] for name in (EDGES, OFFSETS)):
            return None
        return NeighborCache(folder, np.load(folder / OFFSETS))
    except (OSError, ValueError, KeyError):
        return None


class NeighborCacheWriter:
    """Takes the neighbors of one frame after the other; `finish` puts the cache in its place.

    A context: what is not finished is removed. Several processes may write the same cache: each
    writes a folder of its own, the first to finish wins, and the others use what it wrote.

    All methods raise DataError where the disk does not take what is written.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        with self._explained():
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._scratch = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
            self._edges = (self._scratch / EDGES).open("wb")
        self._counts: list[int] = []

    def __enter__(self) -> NeighborCacheWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what is left in the buffer may not fit either
            self._edges.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def add(self, neighbors: Neighbors) -> None:
        """Append a frame."""
        self._counts.append(len(neighbors.center))
        edges = np.column_stack([neighbors.center, neighbors.neighbor, neighbors.shift])
        with self._explained():
            self._edges.write(edges.astype(np.int32).data)

    def finish(self) -> NeighborCache:
        """Close the files, move the folder into place and open it."""
        offsets = np.zeros(len(self._counts) + 1, dtype=np.int64)
        np.cumsum(self._counts, out=offsets[1:])
        with self._explained():
            self._edges.close()
            np.save(self._scratch / OFFSETS, offsets)
            crc = {name: _crc(self._scratch / name) for name in (EDGES, OFFSETS)}
            meta = {"version": _VERSION, "num_frames": len(self._counts), "crc": crc}
            (self._scratch / META).write_text(json.dumps(meta))
            _move(self._scratch, self.folder, len(self._counts))
        return NeighborCache(self.folder, offsets)

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"neighbor lists cannot be written to {self.folder.parent} ({error.strerror or error}): "
                "make room there, or name another data.cache_dir."
            ) from error


def _move(scratch: Path, folder: Path, num_frames: int) -> None:
    """Rename, unless another process was faster; a damaged folder gives way."""
    try:
        os.replace(scratch, folder)
    except OSError:
        if open_neighbor_cache(folder, num_frames) is not None:
            shutil.rmtree(scratch)
            return
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(scratch, folder)


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc
