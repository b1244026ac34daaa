"""ASE databases (`.db`): rows read as they are asked for."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.db import connect

from nequip.data.frame import Frame
from nequip.data.sources.labels import (
    LabelMap,
    available_keys,
    check_explicit_keys,
    frame_from_atoms,
    group_name,
)
from nequip.data.sources.source import IntArray, PerProcess, find_isolated
from nequip.errors import DataError


@dataclass(frozen=True)
class _Index:
    """What is kept in memory of every row."""

    ids: list[int]
    num_atoms: IntArray
    groups: list[str]
    fingerprint: str


class AseDatabase:
    """The rows of a database in the order of their ids; labels from results, key-value pairs and data."""

    def __init__(self, path: Path, labels: LabelMap):
        self.name = str(path)
        self._labels = labels
        self._database = PerProcess(partial(_open, path))
        with _readable(path):
            self._index = self._read_index()
        if not self._index.ids:
            raise DataError(f"{path} holds no frame.")
        self._keys = self._check_keys()

    def __len__(self) -> int:
        return len(self._index.ids)

    def __getitem__(self, index: int) -> Frame:
        frame = frame_from_atoms(self._atoms(index), self._labels, f"{self.name}, frame {index}")
        return replace(frame, group=self._index.groups[index])

    def num_atoms(self) -> IntArray:
        return self._index.num_atoms

    def groups(self) -> list[str]:
        return self._index.groups

    def group_names(self, indices: IntArray) -> set[str]:
        return {self._index.groups[index] for index in indices.tolist()}

    def isolated(self) -> IntArray:
        return find_isolated(self.num_atoms(), self.groups())

    def elements(self, indices: IntArray) -> set[int]:
        wanted = {self._index.ids[index] for index in indices.tolist()}
        rows = self._database.get().select(columns=["id", "numbers"], include_data=False)
        return {number for row in rows if row.id in wanted for number in set(row.numbers.tolist())}

    def fingerprint(self) -> str:
        return self._index.fingerprint

    def label_keys(self) -> list[str]:
        return sorted(self._keys)

    def _atoms(self, index: int) -> Atoms:
        row_id = self._index.ids[index]
        with _readable(Path(self.name), f", frame {index} (row {row_id})"):
            row = self._database.get().get(id=row_id)
            atoms: Atoms = row.toatoms()
            atoms.info = {**row.data, **row.key_value_pairs}
        return atoms

    def _read_index(self) -> _Index:
        digest = hashlib.sha256(str(self._labels).encode())
        ids: list[int] = []
        sizes: list[int] = []
        groups: list[str] = []
        columns = ["id", "unique_id", "mtime", "natoms", "numbers", "key_value_pairs"]
        for row in self._database.get().select(columns=columns, include_data=False, sort="id"):
            digest.update(f"{row.unique_id} {row.mtime}\n".encode())
            ids.append(row.id)
            sizes.append(row.natoms)
            groups.append(group_name(row.natoms, row.key_value_pairs, self._labels))
        return _Index(ids, np.array(sizes, dtype=np.int64), groups, digest.hexdigest())

    def _check_keys(self) -> set[str]:
        """Keys of the rows up to the first that has all those given; raises where one has none."""
        wanted = set(self._labels.explicit().values())
        seen: set[str] = set()
        for index in range(len(self)):
            seen |= available_keys(self._atoms(index))
            if wanted <= seen:
                break
        check_explicit_keys(self._labels, seen, self.name)
        return seen


def _open(path: Path) -> Any:
    database: Any = connect(str(path), use_lock_file=False)
    database.__enter__()  # one connection for the life of the process instead of one for each row
    return database


@contextmanager
def _readable(path: Path, where: str = "") -> Generator[None]:
    try:
        yield
    except (sqlite3.Error, ValueError, KeyError, OSError) as error:
        raise DataError(f"{path}{where} cannot be read as an ASE database: {error}.") from error
