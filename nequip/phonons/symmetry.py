"""Force constants on a grid of wave vectors from those that no symmetry relates."""

from __future__ import annotations

import numpy as np

from nequip.data.force_constants import ComplexArray
from nequip.data.frame import FloatArray
from nequip.phonons.crystal import Phonons
from nequip.phonons.space_group import SpaceOperation, at_atoms


def grid_force_constants(phonons: Phonons, mesh: tuple[int, int, int]) -> tuple[FloatArray, ComplexArray]:
    """All q of a grid around Γ [q, 3], and `Φ` as Phonons.force_constants [q, atom, 3, atom, 3]."""
    atoms = phonons.atoms
    places = atoms.cell.scaled_positions(atoms.positions)
    grid = np.stack(np.meshgrid(*map(np.arange, mesh), indexing="ij"), -1).reshape(-1, 3) / np.array(mesh)
    operations = phonons.operations
    origin: dict[int, tuple[int, SpaceOperation]] = {}  # of each point: whom it is carried from, and how
    for point, q in enumerate(grid):
        if point not in origin:
            for operation in operations:
                origin.setdefault(_number(operation.of_wave(q), mesh), (point, operation))
    sources = sorted({source for source, _ in origin.values()})
    shape = (len(atoms), 3, len(atoms), 3)
    computed = dict(zip(sources, phonons.force_constants(grid[sources]).reshape(-1, *shape), strict=True))
    result = np.empty((len(grid), *shape), dtype=np.complex128)
    for point in range(len(grid)):
        source, operation = origin[point]
        q = grid[source]
        turned = operation.of_constants(_between_atoms(q, places) * computed[source])
        result[point] = _between_atoms(operation.of_wave(q), places).conj() * turned
    return grid, result


def _between_atoms(q: FloatArray, places: FloatArray) -> ComplexArray:
    """Factors that turn constants for waves measured at cells into those for waves measured at atoms."""
    wave = at_atoms(q, places)
    return (wave.conj()[:, None] * wave)[:, None, :, None]


def _number(q: FloatArray, mesh: tuple[int, int, int]) -> int:
    """Which point of the grid q is; -1 for none, where the grid has less symmetry than the crystal."""
    steps = q * mesh
    if np.abs(steps - np.round(steps)).max() > 1e-6:
        return -1
    return int(np.ravel_multi_index(np.round(steps).astype(int), mesh, mode="wrap"))
