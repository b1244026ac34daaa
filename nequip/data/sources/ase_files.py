"""Files that ASE reads through `ase.io`, read once and kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import StringIO
from itertools import count
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import iread
from ase.io.extxyz import read_xyz
from ase.io.formats import open_with_compression

from nequip.data.frame import Frame
from nequip.data.progress import progress
from nequip.data.sources.labels import (
    LabelMap,
    available_keys,
    check_explicit_keys,
    frame_from_atoms,
    warn_of_choices,
)
from nequip.data.sources.source import IntArray, file_sha256, find_isolated
from nequip.errors import DataError

_EXTXYZ = (".xyz", ".extxyz", ".xyz.gz", ".extxyz.gz")


class MemorySource:
    """Frames kept in memory."""

    def __init__(self, name: str, frames: list[Frame], fingerprint: str, label_keys: list[str]):
        self.name = name
        self.frames = frames
        self._fingerprint = fingerprint
        self._label_keys = label_keys

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        return self.frames[index]

    def num_atoms(self) -> IntArray:
        return np.array([frame.num_atoms for frame in self.frames], dtype=np.int64)

    def groups(self) -> list[str]:
        return [frame.group for frame in self.frames]

    def group_names(self, indices: IntArray) -> set[str]:
        return {self.frames[index].group for index in indices.tolist()}

    def isolated(self) -> IntArray:
        return find_isolated(self.num_atoms(), self.groups())

    def elements(self, indices: IntArray) -> set[int]:
        return {int(number) for index in indices for number in np.unique(self.frames[index].numbers)}

    def fingerprint(self) -> str:
        return self._fingerprint

    def label_keys(self) -> list[str]:
        return self._label_keys


@dataclass(frozen=True)
class UnparsedFrame:
    """A frame cut out of its file: passing it on, or over, costs little."""

    path: Path
    index: int  # in the file
    parse: Callable[[], Atoms]

    def read(self, labels: LabelMap) -> tuple[Frame, set[str]]:
        """The frame, and the keys that it has in the file.

        Raises:
            DataError: for a frame that cannot be read, with its index in its file.
        """
        with _explained(self.path, self.index):
            atoms = self.parse()
        return frame_from_atoms(atoms, labels, f"{self.path}, frame {self.index}"), available_keys(atoms)


def unparsed_frames(paths: Sequence[Path]) -> Iterator[UnparsedFrame]:
    """The frames of several files.

    Raises:
        DataError: for a file in which a frame cannot be told from the next.
    """
    for path in paths:
        if is_extxyz(path):
            frames = (partial(_parse_extxyz, text) for text in split_extxyz(path))
        else:
            # An iterator of ASE's has parsed the frame already.
            frames = (partial(_same, atoms) for atoms in iread(str(path), ":", do_not_split_by_at_sign=True))
        for index in count():
            with _explained(path, index):
                parse = next(frames, None)
            if parse is None:
                break
            yield UnparsedFrame(path, index, parse)


def read_ase_files(name: str, paths: Sequence[Path], labels: LabelMap) -> MemorySource:
    """Read every frame of `paths`.

    Raises:
        DataError: for a frame that cannot be read, for files without frames, and for a key that
            no frame has.
    """
    frames: list[Frame] = []
    keys: set[str] = set()
    for unparsed in progress(unparsed_frames(paths), f"reading {name}"):
        frame, its_keys = unparsed.read(labels)
        frames.append(frame)
        keys |= its_keys
    if not frames:
        raise DataError(f"{name} holds no frame.")
    check_explicit_keys(labels, keys, name)
    warn_of_choices(labels, keys, name)
    return MemorySource(name, frames, ase_files_fingerprint(paths, labels), sorted(keys))


def is_extxyz(path: Path) -> bool:
    """Whether `path` is read by `split_extxyz`."""
    return str(path).endswith(_EXTXYZ)


def ase_files_fingerprint(paths: Sequence[Path], labels: LabelMap) -> str:
    """Changes with the content of the files and with the labels that are read."""
    parts = [*(file_sha256(path) for path in paths), str(labels)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


@contextmanager
def _explained(path: Path, index: int) -> Generator[None]:
    """Whatever ASE's readers raise, as a sentence that names the frame."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}, frame {index} (counting from 0) cannot be read: {reason}.") from error


def _same(atoms: Atoms) -> Atoms:
    return atoms


def _parse_extxyz(text: str) -> Atoms:
    return next(read_xyz(StringIO(text), 0))


def split_extxyz(path: Path) -> Iterator[str]:
    """The text of each frame: ASE's own loop scans the whole file first and ends at a blank line."""
    with open_with_compression(str(path), "r") as file:
        line = file.readline()
        while line:
            if not line.strip():
                line = file.readline()
                continue
            num_atoms = _num_atoms(line)
            lines = [line, *(file.readline() for _ in range(1 + num_atoms))]
            if not lines[-1]:
                raise ValueError(f"the file ends before its {num_atoms} atoms do")
            line = file.readline()
            while line.lstrip().startswith("VEC"):  # lattice vectors as ADF writes them
                lines.append(line)
                line = file.readline()
            yield "".join(lines)


def _num_atoms(line: str) -> int:
    if not line.strip().isdigit():
        raise ValueError(f"expected the number of atoms, found {line.strip()[:40]!r}")
    return int(line)
