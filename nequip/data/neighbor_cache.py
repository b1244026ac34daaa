"""Neighbor lists on disk: flat arrays, written while the frames stream by, read slice by slice.

A cache is a folder, named by what its content depends on, that appears whole or not at all:

    meta.json     sizes and checksums
    offsets.npy   [frame+1] int64: edges of frame f are offsets[f]:offsets[f+1]
    center.bin, neighbor.bin   [edge] int32
    shift.bin     [edge, 3] int16
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
from typing import Any, BinaryIO

import numpy as np

from nequip.data.neighbors import IntArray, Neighbors
from nequip.errors import DataError

_VERSION = 1
_ARRAYS: dict[str, tuple[np.dtype[Any], int]] = {
    "center.bin": (np.dtype(np.int32), 1),
    "neighbor.bin": (np.dtype(np.int32), 1),
    "shift.bin": (np.dtype(np.int16), 3),
}


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
        center, neighbor, shift = (self._slice(name, start, stop) for name in _ARRAYS)
        return Neighbors(center, neighbor, shift.reshape(-1, 3))

    def _slice(self, name: str, start: int, stop: int) -> IntArray:
        # Read, not mapped: mapped pages stay in the resident memory of the process.
        dtype, width = _ARRAYS[name]
        count, offset = (stop - start) * width, start * width * dtype.itemsize
        return np.fromfile(self.folder / name, dtype, count, offset=offset).astype(np.int64)


def open_neighbor_cache(folder: Path, num_frames: int) -> NeighborCache | None:
    """The cache in `folder`, or None where there is none or where it is damaged or cut."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta["version"] != _VERSION or meta["num_frames"] != num_frames:
            return None
        if any(_crc(folder / name) != crc for name, crc in meta["crc"].items()):
            return None
        return NeighborCache(folder, np.load(folder / "offsets.npy"))
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
            self._files: dict[str, BinaryIO] = {n: (self._scratch / n).open("wb") for n in _ARRAYS}
        self._counts: list[int] = []

    def __enter__(self) -> NeighborCacheWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            with suppress(OSError):  # what is left in a buffer may not fit either
                file.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def add(self, neighbors: Neighbors, where: str) -> None:
        """Append a frame.

        Raises:
            DataError: for an atom so far outside the cell that its lattice shift does not fit.
        """
        if len(neighbors.shift) and np.abs(neighbors.shift).max() > np.iinfo(np.int16).max:
            raise DataError(f"{where}: an atom lies more than 32767 cells away from another: wrap it.")
        self._counts.append(len(neighbors.center))
        arrays = (neighbors.center, neighbors.neighbor, neighbors.shift)
        with self._explained():
            for (name, (dtype, _)), array in zip(_ARRAYS.items(), arrays, strict=True):
                self._files[name].write(np.ascontiguousarray(array, dtype=dtype).data)

    def finish(self) -> NeighborCache:
        """Close the files, move the folder into place and open it."""
        offsets = np.zeros(len(self._counts) + 1, dtype=np.int64)
        np.cumsum(self._counts, out=offsets[1:])
        with self._explained():
            for file in self._files.values():
                file.close()
            np.save(self._scratch / "offsets.npy", offsets)
            names = [*_ARRAYS, "offsets.npy"]
            meta = {
                "version": _VERSION,
                "num_frames": len(self._counts),
                "crc": {name: _crc(self._scratch / name) for name in names},
            }
            (self._scratch / "meta.json").write_text(json.dumps(meta))
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
