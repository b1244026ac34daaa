"""A shard in one HDF5 file: a dataset for each column, contiguous, so that a frame is one slice."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nequip.data.sources.columns import (
    ATOM_COLUMNS,
    FIELD_ATOM_COLUMNS,
    FIELD_FRAME_COLUMNS,
    FRAME_COLUMNS,
    HESSIAN,
    HESSIAN_SIZE,
    Columns,
)

IntArray = NDArray[np.int64]
_META = "e3forge"


def write(path: Path, columns: Columns, meta: str) -> None:
    """Write a shard, down to the disk."""
    with h5py.File(path, "w") as file:
        file.attrs[_META] = meta
        for name, column in columns.items():
            file.create_dataset(name, data=column)
    with path.open("rb") as written:
        os.fsync(written.fileno())


def read_meta(path: Path) -> str | None:
    """What `write` was given; None for a file of another origin."""
    with _open(path) as file:
        return file.attrs.get(_META)


class Reader:
    """An open shard."""

    def __init__(self, path: Path):
        self._file: Any = _open(path)
        # Looking a dataset up by name takes 20 times longer than reading a slice of it.
        self._datasets: dict[str, Any] = {name: self._file[name] for name in self._file}
        self._of_frames = [*FRAME_COLUMNS, *(name for name in FIELD_FRAME_COLUMNS if name in self._datasets)]
        self._of_atoms = [*ATOM_COLUMNS, *(name for name in FIELD_ATOM_COLUMNS if name in self._datasets)]
        sizes: IntArray = self._file[HESSIAN_SIZE][:] if HESSIAN in self._file else np.zeros(0, np.int64)
        self._hessian_ends = np.cumsum(sizes)

    def column(self, name: str) -> NDArray[Any]:
        """All rows of a column."""
        return np.asarray(self._datasets[name][:])

    def frame(self, index: int, start: int, stop: int) -> Columns:
        """The rows of frame `index`, whose atoms are `start:stop`."""
        rows = {name: np.asarray(self._datasets[name][index]) for name in self._of_frames}
        rows |= {name: np.asarray(self._datasets[name][start:stop]) for name in self._of_atoms}
        if len(self._hessian_ends):
            first, end = self._hessian_ends[index - 1] if index else 0, self._hessian_ends[index]
            rows[HESSIAN] = np.asarray(self._datasets[HESSIAN][first:end])
        return rows


def _open(path: Path) -> h5py.File:
    # Shards never change, and some network file systems know no locks.
    return h5py.File(path, "r", locking=False)
