"""Frames from files: `open_source(path)` picks the reader by the suffix."""

from __future__ import annotations

from glob import glob, has_magic
from pathlib import Path

from nequip.data.sources.ase_db import AseDatabase
from nequip.data.sources.ase_files import MemorySource, read_ase_files
from nequip.data.sources.labels import LabelMap
from nequip.data.sources.phonopy_file import read_phonopy_file
from nequip.data.sources.source import ConcatSource, FrameSource, frame_name, separate_isolated_atoms
from nequip.data.sources.store import is_store, open_store
from nequip.errors import DataError, did_you_mean

__all__ = [
    "ConcatSource",
    "FrameSource",
    "LabelMap",
    "MemorySource",
    "find_files",
    "frame_name",
    "is_lazy",
    "locate",
    "open_source",
    "separate_isolated_atoms",
]

_PHONOPY = (".yaml", ".yml")


def open_source(path: str | Path, labels: LabelMap | None = None) -> FrameSource:
    """The frames of a file, of a folder that `convert` wrote, or of all files that a pattern matches.

    HDF5, LMDB and ASE databases are read as frames are asked for. `phonopy.yaml` is one frame with force
    constants. Everything else goes through `ase.io` once and is kept in memory.

    Raises:
        DataError: for a missing file and for whatever the reader cannot make sense of.
    """
    labels = labels or LabelMap()
    paths = find_files(path)
    if not any(is_lazy(found) for found in paths):
        return read_ase_files(str(path), paths, labels)
    sources = [_open_lazily(found, labels) for found in paths]
    return sources[0] if len(sources) == 1 else ConcatSource(str(path), sources)


def find_files(path: str | Path) -> list[Path]:
    """The file, or those that match a pattern such as `DIR/*.xyz`, sorted.

    Raises:
        DataError: where there is none.
    """
    text = str(Path(path).expanduser())
    if has_magic(text) and not Path(text).exists():
        found = sorted(Path(match) for match in glob(text))
        if not found:
            raise DataError(f"no file matches {text}.")
        return found
    if not Path(text).exists():
        folder = Path(text).parent
        siblings = [sibling.name for sibling in folder.iterdir()] if folder.is_dir() else []
        raise DataError(f"there is no file {text}{did_you_mean(Path(text).name, siblings)}.")
    return [Path(text)]


def locate(file: str, cache_dir: str | Path) -> Path:
    """The path that `file` means: a path, or `set:NAME` for a named set, downloaded where need be."""
    if not file.startswith("set:"):
        return Path(file).expanduser()
    from nequip.data.named_sets import resolve_named_set

    return resolve_named_set(file.removeprefix("set:"), Path(cache_dir).expanduser())


def is_lazy(path: Path) -> bool:
    """Whether `path` is read by something else than `ase.io`."""
    return is_store(path) or path.suffix in (".db", *_PHONOPY)


def _open_lazily(path: Path, labels: LabelMap) -> FrameSource:
    if path.suffix == ".db":
        return AseDatabase(path, labels)
    if path.suffix in _PHONOPY:
        return read_phonopy_file(path)
    if not is_store(path):
        return read_ase_files(str(path), [path], labels)
    if labels != LabelMap():
        raise DataError(
            f"{path} is a store, whose labels got their names and signs when it was converted: "
            "leave out data.keys and data.stress_sign, or convert again with other keys."
        )
    return open_store(path)
