"""The operations that leave a molecule as it is, and what their group is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from nequip.data.frame import FloatArray

TOLERANCE = 0.03  # Å, of the places of atoms: a relaxed structure is never quite symmetric
TURNS = 6  # of the circle that stand for all rotations about the axis of a linear molecule
SMALL = 1e-3
PARALLEL = 0.999


@dataclass(frozen=True)
class Operation:
    """An orthogonal matrix about the center of mass, and which atom goes where."""

    matrix: FloatArray  # [3, 3]
    to: NDArray[np.int64]  # [atom] index of the atom that sits where this one is carried

    @property
    def proper(self) -> bool:
        return bool(np.linalg.det(self.matrix) > 0)

    @property
    def order(self) -> int:
        """n of the rotation C_n, or of S_n, which is C_n and a reflection; 1: identity or reflection."""
        return _turn(self.matrix, self.proper)[0]

    @property
    def is_first(self) -> bool:
        """Turns by one n-th of the circle, and not by several."""
        order, times = _turn(self.matrix, self.proper)
        return times == 1 or order <= 2

    @property
    def axis(self) -> FloatArray:
        """Of the rotation; of a reflection, the normal of its plane."""
        values, vectors = np.linalg.eig(self.matrix)
        return vectors[:, np.argmin(np.abs(values - (1 if self.proper else -1)))].real

    @property
    def is_inversion(self) -> bool:
        return bool(np.allclose(self.matrix, -np.eye(3), atol=0.05))

    @property
    def is_reflection(self) -> bool:
        return not self.proper and self.order == 1


@dataclass(frozen=True)
class PointGroup:
    """Schoenflies symbol and operations; of a linear molecule, those of sixfold rotations."""

    name: str
    operations: tuple[Operation, ...]
    rotational: int  # symmetry number: rotations that cannot be told apart
    centered: FloatArray  # [atom, 3] positions about the center of mass, Å

    @property
    def linear(self) -> bool:
        return "∞" in self.name


def find_point_group(atoms: Atoms, tolerance: float = TOLERANCE) -> PointGroup:
    """All orthogonal matrices that carry the molecule into itself.

    Args:
        tolerance: Å, that an atom may miss its place by.
    """
    positions = atoms.positions - atoms.get_center_of_mass()
    sizes = np.linalg.svd(positions, compute_uv=False) if len(atoms) else np.zeros(1)
    if sizes[0] < tolerance:
        candidates: Iterator[FloatArray] = iter([np.eye(3), -np.eye(3)])
        return PointGroup(
            "Kh", _those_that_hold(candidates, positions, atoms.numbers, tolerance), 1, positions
        )
    if len(sizes) < 2 or sizes[1] < tolerance:
        operations = _those_that_hold(_about_line(positions), positions, atoms.numbers, tolerance)
        symmetric = any(operation.is_inversion for operation in operations)
        return PointGroup("D∞h" if symmetric else "C∞v", operations, 1 + symmetric, positions)
    candidates = _candidates(positions, atoms.numbers, tolerance)
    operations = _those_that_hold(candidates, positions, atoms.numbers, tolerance)
    rotational = sum(operation.proper for operation in operations)
    return PointGroup(_name(operations), operations, rotational, positions)


def _about_line(positions: FloatArray) -> Iterator[FloatArray]:
    """Sixfold rotations about the line, reflections that hold it, and all that turns it round."""
    basis = np.linalg.svd(positions)[2][[1, 2, 0]]  # rows: across, across, along
    for turn, side, end in product(range(TURNS), (1, -1), (1, -1)):
        angle = 2 * np.pi * turn / TURNS
        rotation = np.array(
            [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
        )
        yield basis.T @ rotation @ np.diag([side, 1, end]) @ basis


def _candidates(positions: FloatArray, numbers: NDArray[np.int64], tolerance: float) -> Iterator[FloatArray]:
    """Matrices that carry two atoms of a rare kind, off a line with the center, to two like them."""
    distance = np.linalg.norm(positions, axis=1)
    alike = (numbers[:, None] == numbers) & (np.abs(distance[:, None] - distance) < 2 * tolerance)
    rare = np.argsort(alike.sum(1) + 1e6 * (distance < 0.1), kind="stable")
    first = rare[0]
    second = next(
        atom
        for atom in rare
        if np.linalg.norm(np.cross(positions[first], positions[atom]))
        > 0.1 * distance[first] * distance[atom]
        and distance[atom] >= 0.1
    )
    start = _frame(positions[first], positions[second])
    between = np.linalg.norm(positions[first] - positions[second])
    for one, two in product(np.flatnonzero(alike[first]), np.flatnonzero(alike[second])):
        if one != two and abs(np.linalg.norm(positions[one] - positions[two]) - between) < 2 * tolerance:
            end = _frame(positions[one], positions[two])
            for side in (1, -1):
                yield end.T @ np.diag([1, 1, side]) @ start


def _frame(a: FloatArray, b: FloatArray) -> FloatArray:
    """Rows: along a, towards b, and across both."""
    x = a / np.linalg.norm(a)
    y = b - (b @ x) * x
    y = y / np.linalg.norm(y)
    return np.array([x, y, np.cross(x, y)])


def _those_that_hold(
    candidates: Iterator[FloatArray], positions: FloatArray, numbers: NDArray[np.int64], tolerance: float
) -> tuple[Operation, ...]:
    """Those that carry each atom near one of its element, each made as exact as the atoms allow."""
    found: list[Operation] = []
    for rough in candidates:
        # a frame of two atoms magnifies their errors on those farther out
        to = _carried(rough, positions, numbers, 4 * tolerance)
        if to is None:
            continue
        matrix = _fitted(rough, positions, to)
        to = _carried(matrix, positions, numbers, tolerance)
        if to is not None and not any(np.abs(matrix - o.matrix).max() < 0.05 for o in found):
            found.append(Operation(matrix, to))
    return tuple(found)


def _carried(
    matrix: FloatArray, positions: FloatArray, numbers: NDArray[np.int64], tolerance: float
) -> NDArray[np.int64] | None:
    moved = positions @ matrix.T
    gaps = np.linalg.norm(moved[:, None] - positions, axis=2) + 1e6 * (numbers[:, None] != numbers)
    to = gaps.argmin(1)
    fits = gaps[np.arange(len(to)), to].max() < tolerance and len(set(to.tolist())) == len(to)
    return to if fits else None


def _fitted(rough: FloatArray, positions: FloatArray, to: NDArray[np.int64]) -> FloatArray:
    """The nearest orthogonal matrix by all atoms; across flat molecules, as `rough` has it."""
    left, sizes, right = np.linalg.svd(positions[to].T @ positions)
    if sizes[2] > SMALL * sizes[0]:
        return left @ right
    u, _, v = np.linalg.svd(rough)
    return u @ v


def _turn(matrix: FloatArray, proper: bool) -> tuple[int, int]:
    """n and m of a rotation by m/n of the circle (m <= n/2), after a reflection across it or not."""
    cosine = (np.trace(matrix) - (1 if proper else -1)) / 2
    share = float(np.arccos(np.clip(cosine, -1, 1)) / (2 * np.pi))
    for n in range(1, 21):
        if abs(share * n - round(share * n)) < 0.01 * n:
            return n, round(share * n)
    return 1, 0


def _name(operations: tuple[Operation, ...]) -> str:
    """Schoenflies' symbol by the flow chart of textbooks."""
    inverted = any(operation.is_inversion for operation in operations)
    improper = any(not operation.proper for operation in operations)
    axes = {n: distinct_axes(operations, n) for n in range(2, 21)}
    if len(axes[3]) >= 4:
        if axes[5]:
            return "Ih" if inverted else "I"
        if axes[4]:
            return "Oh" if inverted else "O"
        return "Th" if inverted else ("Td" if improper else "T")
    n = max((n for n, found in axes.items() if found), default=1)
    if n == 1:
        return "Ci" if inverted else ("Cs" if improper else "C1")
    main = principal_axis(operations)
    across = [axis for axis in axes[2] if abs(axis @ main) < 0.1]
    mirrors = [o.axis for o in operations if o.is_reflection]
    horizontal = any(abs(normal @ main) > PARALLEL - 0.01 for normal in mirrors)
    if len(across) >= n:
        return f"D{n}h" if horizontal else (f"D{n}d" if mirrors else f"D{n}")
    if horizontal or mirrors:
        return f"C{n}h" if horizontal else f"C{n}v"
    return f"S{2 * n}" if improper else f"C{n}"


def distinct_axes(operations: tuple[Operation, ...], order: int) -> list[FloatArray]:
    """Axes of the rotations of this order."""
    axes: list[FloatArray] = []
    for operation in operations:
        if operation.proper and operation.order == order:
            axis = operation.axis
            if all(abs(axis @ other) < PARALLEL - 0.01 for other in axes):
                axes.append(axis)
    return axes


def principal_axis(operations: tuple[Operation, ...]) -> FloatArray:
    """Of the rotation of highest order, improper ones included (S4 goes before C2)."""
    return max(operations, key=lambda o: o.order if o.proper or o.order > 2 else 0).axis
