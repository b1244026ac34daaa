"""From what a publisher offers (npz, JSON, extxyz; alone or in an archive) to extxyz in eV and Å.

Archive members are read by name into memory. Nothing is ever unpacked to a path that an archive
chose. Every number is written so that it reads back exactly.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from ase import units
from ase.data import chemical_symbols
from ase.io import iread
from numpy.typing import NDArray

from nequip.data.frame import FloatArray, Frame
from nequip.errors import did_you_mean

KCAL_PER_MOL: float = units.kcal / units.mol  # eV; 0.0433641...

Rows = NDArray[np.int64]
Layout = Callable[[BinaryIO, "Rows | None"], Iterator[Frame]]


def open_member(path: Path, member: str) -> BinaryIO:
    """The file at `path`, or what lies under the exact name `member` in the archive at `path`.

    Raises:
        ValueError: the archive has no such member.
        tarfile.TarError, zipfile.BadZipFile, and others: it is no archive, or a broken one.
    """
    if not member:
        return path.open("rb")
    names: list[str] = []
    if tarfile.is_tarfile(path):
        # One pass, forwards only: to seek back in a compressed archive is to unpack it again.
        with tarfile.open(path, "r|*") as tar:
            for info in tar:
                names.append(info.name)
                if info.name == member and (content := tar.extractfile(info)) is not None:
                    return io.BytesIO(content.read())
    else:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if member in names:
                return io.BytesIO(archive.read(member))
    raise ValueError(f"it has no file {member!r}{did_you_mean(member, names)}")


def read_rows(handle: BinaryIO) -> Rows:
    """Frame numbers from 0, one a line."""
    return np.loadtxt(handle, dtype=np.int64, ndmin=1)


def write_extxyz(frames: Iterable[Frame], handle: BinaryIO) -> int:
    """Write `frames` to `handle` and return how many there were.

    Raises:
        ValueError: there were none.
    """
    count = 0
    for count, frame in enumerate(frames, start=1):  # noqa: B007
        handle.write(_extxyz_text(frame).encode())
    if count == 0:
        raise ValueError("it has no frames")
    return count


def _extxyz_text(frame: Frame) -> str:
    columns, fields = "species:S:1:pos:R:3", frame.positions
    if frame.forces is not None:
        columns, fields = columns + ":forces:R:3", np.hstack([frame.positions, frame.forces])
    header = [f"Properties={columns}"]
    if any(frame.pbc):
        header.insert(0, f'Lattice="{_numbers(frame.cell.ravel().tolist())}"')
    if frame.energy is not None:
        header.append(f"energy={float(frame.energy)!r}")
    if frame.group:
        header.append(f"group={json.dumps(frame.group)}")
    header.append('pbc="{} {} {}"'.format(*("T" if periodic else "F" for periodic in frame.pbc)))
    lines = [
        f"{chemical_symbols[number]} {_numbers(row)}"
        for number, row in zip(frame.numbers.tolist(), fields.tolist(), strict=True)
    ]
    return "\n".join([str(frame.num_atoms), " ".join(header), *lines, ""])


def _numbers(values: list[float]) -> str:
    return " ".join(map(repr, values))


def _npz(handle: BinaryIO, rows: Rows | None, *, keys: tuple[str, ...]) -> Iterator[Frame]:
    """One molecule, arrays over all frames; energies in kcal/mol, forces in kcal/mol/Å."""
    with np.load(handle) as arrays:
        missing = [key for key in keys if key not in arrays]
        if missing:
            raise ValueError(f"it has no array {', '.join(missing)}")
        numbers, positions, energies, forces = (arrays[key] for key in keys)
    energies = energies.reshape(-1).astype(np.float64) * KCAL_PER_MOL
    for row in range(len(energies)) if rows is None else rows.tolist():
        if not 0 <= row < len(energies):
            raise ValueError(f"frame {row} was asked for, and it has {len(energies)}")
        yield Frame(
            numbers=numbers.astype(np.int64),
            positions=positions[row].astype(np.float64),
            energy=float(energies[row]),
            forces=forces[row].astype(np.float64) * KCAL_PER_MOL,
        )


def _extxyz(
    handle: BinaryIO,
    rows: Rows | None,
    *,
    keys: tuple[str, str] = ("energy", "forces"),
    length: float = 1.0,
    energy: float = 1.0,
) -> Iterator[Frame]:
    """Energy and forces of each frame; `length` and `energy` are the file's units in Å and eV.

    A stress is left out: its sign and unit are seldom stated, and a wrong one is worse than none.
    """
    assert rows is None
    energy_key, forces_key = keys
    with io.TextIOWrapper(handle, "utf-8") as text:
        for index, atoms in enumerate(iread(text, format="extxyz")):
            labels: dict[str, Any] = {**atoms.info, **atoms.arrays}
            labels |= {} if atoms.calc is None else atoms.calc.results
            if energy_key not in labels:
                raise ValueError(f"frame {index} has no {energy_key!r}")
            forces: FloatArray | None = labels.get(forces_key)
            pbc = tuple(bool(periodic) for periodic in atoms.pbc)
            yield Frame(
                numbers=atoms.numbers.astype(np.int64),
                positions=atoms.positions * length,
                cell=atoms.cell.array * length,
                pbc=(pbc[0], pbc[1], pbc[2]),
                energy=float(labels[energy_key]) * energy,
                forces=None if forces is None else forces * (energy / length),
                group=str(labels.get("group", labels.get("config_type", ""))),
            )


def _mlearn(handle: BinaryIO, rows: Rows | None) -> Iterator[Frame]:
    """A list of pymatgen structures with VASP's energy and forces.

    Their `virial_stress` is left out: the order of its shear components is not the same in all
    frames (xy yz xz for sheared cells, judging by the cells; others are not told).
    """
    assert rows is None
    for record in json.load(handle):
        structure, outputs = record["structure"], record["outputs"]
        symbols = [site["species"][0]["element"] for site in structure["sites"]]
        yield Frame(
            numbers=np.array([chemical_symbols.index(symbol) for symbol in symbols]),
            positions=np.array([site["xyz"] for site in structure["sites"]], dtype=np.float64),
            cell=np.array(structure["lattice"]["matrix"], dtype=np.float64),
            pbc=(True, True, True),
            energy=float(outputs["energy"]),
            forces=np.array(outputs["forces"], dtype=np.float64),
            group=str(record["group"]),
        )


LAYOUTS: dict[str, Layout] = {
    "npz-rmd17": partial(_npz, keys=("nuclear_charges", "coords", "energies", "forces")),
    "npz-sgdml": partial(_npz, keys=("z", "R", "E", "F")),
    "extxyz": _extxyz,
    "extxyz-atomic-units": partial(
        _extxyz, keys=("TotEnergy", "force"), length=units.Bohr, energy=units.Hartree
    ),
    "json-mlearn": _mlearn,
}
