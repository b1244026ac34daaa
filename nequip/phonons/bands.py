"""Frequencies along the lines between points of high symmetry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import seekpath
from ase import Atoms

from nequip.data.frame import FloatArray
from nequip.errors import DataError
from nequip.phonons.crystal import Phonons

Segment = tuple[str, str]


@dataclass(frozen=True)
class BandPath:
    """Straight lines through the Brillouin zone; labels as seekpath's, GAMMA for Γ."""

    points: dict[str, FloatArray]  # in units of the reciprocal lattice vectors
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Line:
    """Bands along one segment."""

    start: str
    end: str
    q: FloatArray  # [point, 3]
    distance: FloatArray  # [point] Å⁻¹ (without 2π) from the start of the whole path
    frequencies: FloatArray  # [point, mode] THz


def primitive_cell(atoms: Atoms, tolerance: float = 1e-4) -> tuple[Atoms, BandPath]:
    """The primitive cell as seekpath orients it, and the path that belongs to it.

    Raises:
        DataError: where no symmetry can be found, as in a structure with overlapping atoms.
    """
    structure = (np.array(atoms.cell), atoms.get_scaled_positions(), atoms.numbers)
    try:
        found = seekpath.get_path(structure, symprec=tolerance)
    except Exception as error:
        raise DataError(f"seekpath finds no path for this structure: {error}") from error
    primitive = Atoms(
        found["primitive_types"],
        cell=found["primitive_lattice"],
        scaled_positions=found["primitive_positions"],
        pbc=True,
    )
    points = {name: np.array(point) for name, point in found["point_coords"].items()}
    return primitive, BandPath(points, tuple(tuple(segment) for segment in found["path"]))


def band_structure(phonons: Phonons, path: BandPath, num_points: int = 100) -> list[Line]:
    """Bands along `path`, at about `num_points` wave vectors divided by length, at least 3 for a segment."""
    reciprocal = np.linalg.inv(np.array(phonons.atoms.cell)).T
    ends = [(path.points[start], path.points[end]) for start, end in path.segments]
    lengths = [float(np.linalg.norm((end - start) @ reciprocal)) for start, end in ends]
    lines: list[Line] = []
    travelled = 0.0
    for names, (start, end), length in zip(path.segments, ends, lengths, strict=True):
        share = np.linspace(0, 1, max(3, round(num_points * length / sum(lengths))))
        q = start + share[:, None] * (end - start)
        # Γ is approached along the line
        directions = np.broadcast_to(end - start, q.shape)
        frequencies = phonons.modes(q, directions)[0]
        lines.append(Line(*names, q, travelled + share * length, frequencies))
        travelled += length
    return lines
