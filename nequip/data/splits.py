"""Which frames are for training, for validation and for the test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nequip.data.sources.ase_files import split_extxyz
from nequip.errors import DataError, did_you_mean

IntArray = NDArray[np.int64]
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class SplitSizes:
    """Sizes of the parts: whole numbers count frames, fractions are shares of all frames.

    A `train` of None takes what the others leave.
    """

    train: int | float | None = None
    val: int | float = 0.1
    test: int | float = 0

    def counts(self, num_frames: int) -> tuple[int | None, int, int]:
        """The sizes in frames.

        Raises:
            DataError: for negative sizes and for more frames than there are.
        """
        train = None if self.train is None else _count(self.train, num_frames, "train")
        val, test = _count(self.val, num_frames, "val"), _count(self.test, num_frames, "test")
        wanted = (train or 0) + val + test
        # Shares that add up to one may round to one frame more.
        excess = wanted - num_frames
        if train is not None and 0 < excess <= 2 and isinstance(self.train, float):
            train, wanted = train - excess, num_frames
        if wanted > num_frames:
            raise DataError(
                f"the split asks for {wanted} frames ({train or 0} train, {val} val, {test} test), "
                f"but there are only {num_frames}."
            )
        if train == 0 or (train is None and wanted == num_frames):
            raise DataError(
                f"the split leaves no training frame: there are {num_frames}, "
                f"and val takes {val}, test {test}."
            )
        return train, val, test


def _count(size: int | float, num_frames: int, part: str) -> int:
    if size < 0 or (isinstance(size, float) and size > 1):
        raise DataError(
            f"the size of {part} is {size}: give a number of frames (a whole number) or a share up to 1.0."
        )
    return round(size * num_frames) if isinstance(size, float) else size


@dataclass(frozen=True)
class Split:
    """Indices of the frames of each part, ascending, none in two parts."""

    train: IntArray
    val: IntArray
    test: IntArray


def random_split(indices: IntArray, sizes: SplitSizes, seed: int) -> Split:
    """Shuffle by `seed`, then cut."""
    train, val, test = sizes.counts(len(indices))
    order = np.random.default_rng(seed).permutation(indices)
    rest = order[val + test :]
    return _sorted(rest if train is None else rest[:train], order[:val], order[val : val + test])


def split_by_group(indices: IntArray, groups: Sequence[str], sizes: SplitSizes, seed: int) -> Split:
    """Whole groups go to one part: no structure of a validation group is seen in training.

    Groups come largest first, those of one size in an order drawn by `seed`; each goes to the part
    that lacks most frames of what it asked for, and no part asked for stays empty.

    Raises:
        DataError: for fewer groups than parts.
    """
    members: dict[str, list[int]] = {}
    for index, group in zip(indices.tolist(), groups, strict=True):
        members.setdefault(group, []).append(index)
    train, val, test = sizes.counts(len(indices))
    lacking = {"train": len(indices) - val - test if train is None else train, "val": val, "test": test}
    parts: dict[str, list[int]] = {part: [] for part in PARTS if lacking[part] > 0}
    if len(members) < len(parts):
        raise DataError(
            f"a split by group into {' and '.join(parts)} needs {len(parts)} groups, "
            f"but the frames have {len(members)} ({', '.join(repr(g) for g in members)}): "
            "set data.keys.group to the key that tells frames apart, or split at random."
        )
    names: list[str] = np.random.default_rng(seed).permutation(sorted(members)).tolist()
    names.sort(key=lambda name: -len(members[name]))
    for position, name in enumerate(names):
        empty = [part for part in parts if not parts[part]]
        last_chance = len(names) - position <= len(empty)
        part = max(empty if last_chance else parts, key=lambda part: lacking[part])
        if lacking[part] > 0 or train is None:
            parts[part] += members[name]
            lacking[part] -= len(members[name])
    return _sorted(*(np.array(parts.get(part, []), dtype=np.int64) for part in PARTS))


def write_split(split: Split, path: Path) -> None:
    """Write the indices as JSON, to be read by `fixed_split`."""
    path.write_text(json.dumps({part: getattr(split, part).tolist() for part in PARTS}) + "\n")


def write_parts(path: Path, parts: Mapping[str, IntArray], out: Path) -> list[Path]:
    """Copy the frames of an extxyz file, letter by letter, to `out/<part>.xyz` where there are any.

    Raises:
        DataError: where `out` has a file of that name for any part: frames of an earlier split would
            stand beside those of this one, or a file of the user's be lost.
    """
    for part in parts:
        if (out / f"{part}.xyz").exists():
            raise DataError(f"{out / f'{part}.xyz'} exists already: give another folder, or move it away.")
    part_of = {index: part for part, indices in parts.items() for index in indices.tolist()}
    files = {part: out / f"{part}.xyz" for part, indices in parts.items() if len(indices)}
    with ExitStack() as stack:
        handles = {part: stack.enter_context(file.open("w")) for part, file in files.items()}
        for index, text in enumerate(split_extxyz(path)):
            if index in part_of:
                handles[part_of[index]].write(text if text.endswith("\n") else f"{text}\n")
    return list(files.values())


def fixed_split(path: Path, num_frames: int) -> Split:
    """Indices from a JSON or npz file with the arrays train, val and (perhaps) test.

    Raises:
        DataError: for a file that cannot be read, unknown parts, indices out of range, given twice
            or in two parts.
    """
    arrays = _read_indices(path)
    unknown = sorted(set(arrays) - set(PARTS))
    if unknown or "train" not in arrays:
        wrong = f"{unknown[0]!r}{did_you_mean(unknown[0], PARTS)}" if unknown else "no 'train'"
        raise DataError(f"{path}: it holds {wrong}; the arrays are called train, val and test.")
    parts = [_checked(arrays.get(part, []), num_frames, f"{path}, {part}") for part in PARTS]
    if not len(parts[0]):
        raise DataError(f"{path} names no training frame.")
    for first, second in ((0, 1), (0, 2), (1, 2)):
        shared = np.intersect1d(parts[first], parts[second])
        if len(shared):
            raise DataError(
                f"{path}: frame {shared[0]} is in both {PARTS[first]} and {PARTS[second]} "
                f"({len(shared)} frames are)."
            )
    return _sorted(*parts)


def _read_indices(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".npz":
            with np.load(path) as file:
                return {name: file[name] for name in file.files}
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"the split file {path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object with the lists train, val and test.")
    return content


def _checked(values: Any, num_frames: int, where: str) -> IntArray:
    array = np.asarray(values).reshape(-1)
    if array.size and array.dtype.kind not in "iu":
        raise DataError(f"{where}: indices must be whole numbers.")
    indices = array.astype(np.int64)
    outside = indices[(indices < 0) | (indices >= num_frames)]
    if len(outside):
        raise DataError(f"{where}: index {outside[0]} lies outside 0 to {num_frames - 1}.")
    if len(np.unique(indices)) < len(indices):
        values, counts = np.unique(indices, return_counts=True)
        raise DataError(f"{where}: index {values[counts > 1][0]} is given twice.")
    return indices


def _sorted(train: IntArray, val: IntArray, test: IntArray) -> Split:
    return Split(np.sort(train), np.sort(val), np.sort(test))
