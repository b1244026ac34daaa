"""A shard in one LMDB file: a record for each frame, and the columns that indices are made of."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from nequip.data.sources.columns import (
    ATOM_COLUMNS,
    FIELD_ATOM_COLUMNS,
    FIELD_FRAME_COLUMNS,
    FRAME_COLUMNS,
    HESSIAN,
    HESSIAN_SIZE,
    Columns,
)

Error = lmdb.Error

_META = b"e3forge"
_INDEX_COLUMNS = ("num_atoms", "group", "numbers")  # also kept whole
_PAGE = 4096


def write(path: Path, columns: Columns, meta: str) -> None:
    """Write a shard, down to the disk.

    Raises:
        OSError: for a disk that does not take it.
    """
    path.unlink(missing_ok=True)
    try:
        _write(path, columns, meta)
    except lmdb.Error as error:
        raise OSError(str(error)) from error


def _write(path: Path, columns: Columns, meta: str) -> None:
    ends = np.cumsum(columns["num_atoms"])
    hessian_ends = np.cumsum(columns.get(HESSIAN_SIZE, np.zeros(0, dtype=np.int64)))
    of_frames = [*FRAME_COLUMNS, *(name for name in FIELD_FRAME_COLUMNS if name in columns)]
    of_atoms = [*ATOM_COLUMNS, *(name for name in FIELD_ATOM_COLUMNS if name in columns)]
    with lmdb.open(str(path), subdir=False, lock=False, map_size=_map_size(columns)) as environment:
        with environment.begin(write=True) as transaction:
            for index, (stop, count) in enumerate(zip(ends, columns["num_atoms"], strict=True)):
                rows = {name: columns[name][index] for name in of_frames}
                rows |= {name: columns[name][stop - count : stop] for name in of_atoms}
                if len(hessian_ends):
                    stop, count = hessian_ends[index], columns[HESSIAN_SIZE][index]
                    rows[HESSIAN] = columns[HESSIAN][stop - count : stop]
                transaction.put(_key(index), save({name: np.array(row) for name, row in rows.items()}))
            for name in _INDEX_COLUMNS:
                transaction.put(name.encode(), save({name: columns[name]}))
            transaction.put(_META, meta.encode())
        environment.sync(True)


def read_meta(path: Path) -> str | None:
    """What `write` was given; None for a file of another origin."""
    with _open(path) as environment, environment.begin() as transaction:
        meta = transaction.get(_META)
        return None if meta is None else meta.decode()


class Reader:
    """A shard, opened for each read: LMDB allows a process to have a file open only once."""

    def __init__(self, path: Path):
        self._path = path

    def column(self, name: str) -> NDArray[Any]:
        """All rows of `num_atoms`, `group` or `numbers`."""
        return self._get(name.encode())[name]

    def frame(self, index: int) -> Columns:
        """The rows of frame `index`."""
        return self._get(_key(index))

    def parts(self) -> Iterator[Columns]:
        """All rows, frame by frame, for a checksum."""
        with _open(self._path) as environment, environment.begin() as transaction:
            for key, record in transaction.cursor():
                if len(key) == len(_key(0)) and key[0] == 0:  # names begin with a letter
                    yield load(record)

    def close(self) -> None:
        """Nothing is open between two reads."""

    def _get(self, key: bytes) -> Columns:
        with _open(self._path) as environment, environment.begin() as transaction:
            record = transaction.get(key)
        if record is None:
            raise KeyError(key)
        return load(record)


def _open(path: Path) -> lmdb.Environment:
    return lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)


def _key(index: int) -> bytes:
    return struct.pack(">Q", index)


def _map_size(columns: Columns) -> int:
    """More than the file can take: every record rounded up to whole pages, and its share of the tree."""
    content = sum(column.nbytes for column in columns.values())
    return 4 * content + 4 * _PAGE * len(columns["num_atoms"]) + (1 << 24)
