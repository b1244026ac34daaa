"""Frames as flat arrays, one for each quantity: what a shard of a store holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nequip.data.frame import Frame
from nequip.errors import DataError

Columns = dict[str, NDArray[Any]]

# dtype and shape of a row; a frame is one row of the first, a run of `num_atoms` rows of the second.
FRAME_COLUMNS = {
    "num_atoms": (np.int64, ()),
    "group": (np.int64, ()),  # index into the group names of the shard
    "energy": (np.float64, ()),
    "weight": (np.float64, ()),
    "cell": (np.float64, (3, 3)),
    "pbc": (np.uint8, (3,)),
    "stress": (np.float64, (3, 3)),
}
ATOM_COLUMNS = {
    "numbers": (np.uint8, ()),
    "positions": (np.float64, (3,)),
    "forces": (np.float64, (3,)),
}

# Only in shards where some frame has them; NaN where a frame has none.
FIELD_FRAME_COLUMNS = {"dipole": (3,), "polarizability": (3, 3)}
FIELD_ATOM_COLUMNS = {"born_charges": (3, 3)}

# Only in shards with a Hessian: how many numbers each frame has (9 atoms², or none), and all of them.
HESSIAN_SIZE, HESSIAN = "hessian_size", "hessian"


def pack(frames: Sequence[Frame], group_names: Sequence[str]) -> Columns:
    """The columns of `frames`; missing labels are NaN.

    Raises:
        DataError: for force constants, which shards do not hold.
    """
    if any(frame.force_constants is not None for frame in frames):
        raise DataError("a store holds no force constants: name phonopy's files in data.file as they are.")
    group_index = {name: index for index, name in enumerate(group_names)}
    rows = {
        "num_atoms": [frame.num_atoms for frame in frames],
        "group": [group_index[frame.group] for frame in frames],
        "energy": [np.nan if frame.energy is None else frame.energy for frame in frames],
        "weight": [frame.weight for frame in frames],
        "cell": [frame.cell for frame in frames],
        "pbc": [frame.pbc for frame in frames],
        "stress": [np.full((3, 3), np.nan) if f.stress is None else f.stress for f in frames],
    }
    columns = {
        name: np.array(rows[name], dtype=dtype).reshape(len(frames), *shape)
        for name, (dtype, shape) in FRAME_COLUMNS.items()
    }
    runs = {
        "numbers": [frame.numbers for frame in frames],
        "positions": [frame.positions for frame in frames],
        "forces": [np.full((f.num_atoms, 3), np.nan) if f.forces is None else f.forces for f in frames],
    }
    for name, (dtype, shape) in ATOM_COLUMNS.items():
        columns[name] = np.concatenate(runs[name]).astype(dtype).reshape(-1, *shape)
    if any(frame.hessian is not None for frame in frames):
        hessians = [np.zeros(0) if frame.hessian is None else frame.hessian.reshape(-1) for frame in frames]
        columns[HESSIAN_SIZE] = np.array([len(hessian) for hessian in hessians], dtype=np.int64)
        columns[HESSIAN] = np.concatenate(hessians)
    return columns | _pack_field_labels(frames)


def _pack_field_labels(frames: Sequence[Frame]) -> Columns:
    columns: Columns = {}
    for name, shape in (FIELD_FRAME_COLUMNS | FIELD_ATOM_COLUMNS).items():
        labels = [getattr(frame, name) for frame in frames]
        if all(label is None for label in labels):
            continue
        rows = [1 if name in FIELD_FRAME_COLUMNS else frame.num_atoms for frame in frames]
        filled = [
            np.full((number, *shape), np.nan) if label is None else label.reshape(number, *shape)
            for label, number in zip(labels, rows, strict=True)
        ]
        columns[name] = np.concatenate(filled)
    return columns


def unpack(columns: Columns, group_names: Sequence[str]) -> Frame:
    """The frame whose rows `columns` are."""
    forces = columns["forces"]
    hessian = columns.get(HESSIAN)
    pbc = columns["pbc"]
    return Frame(
        numbers=columns["numbers"].astype(np.int64),
        positions=columns["positions"],
        cell=columns["cell"],
        pbc=(bool(pbc[0]), bool(pbc[1]), bool(pbc[2])),
        energy=_or_none(float(columns["energy"])),
        forces=None if np.isnan(forces).all() else forces,
        stress=None if np.isnan(columns["stress"]).any() else columns["stress"],
        hessian=None if hessian is None or not len(hessian) else hessian.reshape(3 * len(forces), -1),
        dipole=_present(columns.get("dipole")),
        polarizability=_present(columns.get("polarizability")),
        born_charges=_present(columns.get("born_charges")),
        weight=float(columns["weight"]),
        group=group_names[int(columns["group"])],
    )


def checksum(parts: Iterable[Columns]) -> str:
    """Of the columns cut into `parts` in any way along the frames."""
    digests = {name: hashlib.sha256() for name in (*FRAME_COLUMNS, *ATOM_COLUMNS)}
    for columns in parts:
        for name in (HESSIAN, *FIELD_FRAME_COLUMNS, *FIELD_ATOM_COLUMNS):
            if name in columns:
                digests |= {name: digests.get(name, hashlib.sha256())}
        for name, digest in digests.items():
            digest.update(np.ascontiguousarray(columns[name]).tobytes())
    return hashlib.sha256("".join(d.hexdigest() for d in digests.values()).encode()).hexdigest()


def _present(label: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    return None if label is None or np.isnan(label).any() else label


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
