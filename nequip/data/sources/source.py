"""What every reader of frames offers, and several readers as one."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from nequip.data.frame import Frame
from nequip.data.sources.labels import ISOLATED_ATOM

IntArray = NDArray[np.int64]


class FrameSource(Protocol):
    """Frames by index, in memory or read as they are asked for; picklable, safe after a fork."""

    name: str  # for messages: the file

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame: ...

    def num_atoms(self) -> IntArray:
        """Atoms of every frame."""
        ...

    def groups(self) -> list[str]:
        """Group of every frame, "" where it has none."""
        ...

    def group_names(self, indices: IntArray) -> set[str]:
        """Groups of the frames `indices`."""
        ...

    def isolated(self) -> IntArray:
        """Indices of the frames that are isolated atoms."""
        ...

    def elements(self, indices: IntArray) -> set[int]:
        """Atomic numbers that occur in the frames `indices`."""
        ...

    def fingerprint(self) -> str:
        """Changes whenever the frames or the way they are read change."""
        ...

    def label_keys(self) -> list[str]:
        """Keys of labels seen in the file, for messages about missing ones."""
        ...


def frame_name(source: FrameSource, index: int) -> str:
    """How messages call a frame."""
    return f"{source.name}, frame {index}"


T = TypeVar("T")


class PerProcess(Generic[T]):
    """What `open` gives, opened anew in every process: handles do not survive a fork or a pickle."""

    def __init__(self, open: Callable[[], T]):
        self._open = open
        self._handles: dict[int, T] = {}  # those of a parent process are kept, unused: closing harms it

    def get(self) -> T:
        """The handle of this process."""
        process = os.getpid()
        if process not in self._handles:
            self._handles[process] = self._open()
        return self._handles[process]

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": self._open, "_handles": {}}


def separate_isolated_atoms(source: FrameSource) -> tuple[IntArray, IntArray]:
    """Indices of the frames to learn from, and of the isolated atoms among all frames."""
    lone, all_frames = source.isolated(), np.arange(len(source))
    return (np.delete(all_frames, lone) if len(lone) else all_frames), lone


def find_isolated(num_atoms: IntArray, groups: Sequence[str]) -> IntArray:
    """The frames of one atom whose group says that they are isolated."""
    single = np.flatnonzero(num_atoms == 1)
    return single[[groups[index] == ISOLATED_ATOM for index in single.tolist()]]


def file_sha256(path: Path) -> str:
    """Checksum of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class ConcatSource:
    """Several sources, one after the other: the shards of a store, or several files."""

    def __init__(self, name: str, sources: Sequence[FrameSource]):
        self.name = name
        self.sources = list(sources)
        self._starts = np.cumsum([0] + [len(source) for source in self.sources])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        part = bisect_right(self._starts, index) - 1
        return self.sources[part][index - int(self._starts[part])]

    def num_atoms(self) -> IntArray:
        return np.concatenate([source.num_atoms() for source in self.sources])

    def groups(self) -> list[str]:
        return [group for source in self.sources for group in source.groups()]

    def group_names(self, indices: IntArray) -> set[str]:
        return {
            name for part, local in self.by_part(indices) for name in self.sources[part].group_names(local)
        }

    def isolated(self) -> IntArray:
        found = [source.isolated() + start for source, start in zip(self.sources, self._starts, strict=False)]
        return np.concatenate(found)

    def elements(self, indices: IntArray) -> set[int]:
        return {
            number for part, local in self.by_part(indices) for number in self.sources[part].elements(local)
        }

    def by_part(self, indices: IntArray) -> Iterator[tuple[int, IntArray]]:
        """The sources that hold frames `indices`, and where these lie in them."""
        indices = np.sort(indices)
        cuts = np.searchsorted(indices, self._starts)
        for part in np.flatnonzero(np.diff(cuts)).tolist():
            yield part, indices[cuts[part] : cuts[part + 1]] - self._starts[part]

    def fingerprint(self) -> str:
        text = "\n".join(source.fingerprint() for source in self.sources)
        return hashlib.sha256(text.encode()).hexdigest()

    def label_keys(self) -> list[str]:
        return sorted({key for source in self.sources for key in source.label_keys()})
