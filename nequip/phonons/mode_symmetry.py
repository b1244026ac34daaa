"""Which irreducible representation each vibration is of, and whether light sees it.

A set of modes of one frequency is carried into itself by the operations of the point group. Its characters
`χ(g) = Σ_m e_m · P_g e_m` name it by Mulliken's rules, and tell activity: IR by `⟨χ, χ_vector⟩ > 0`, Raman by
`⟨χ, χ_symmetric square of the vector⟩ > 0`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nequip.data.frame import FloatArray
from nequip.phonons.point_group import Operation, PointGroup, distinct_axes, principal_axis

SAME = 3.0  # cm⁻¹: modes as near as this may be of one degenerate set
DRAWS, APART = 4, 0.1  # eigenvalues of random matrices, which are of order one
THROUGH = 0.1  # Å: an atom this near to an axis or a plane lies on it


@dataclass(frozen=True)
class ModeSymmetry:
    """Of one mode."""

    irrep: str
    infrared: bool
    raman: bool


def mode_symmetries(group: PointGroup, frequencies: FloatArray, modes: FloatArray) -> list[ModeSymmetry]:
    """One for each mode.

    Args:
        frequencies: cm⁻¹, ascending.
        modes: [mode, 3 atoms], orthonormal with weights of mass.
    """
    moves = np.array([_move(operation) for operation in group.operations])
    matrices = np.array([operation.matrix for operation in group.operations])
    vector = np.trace(matrices, axis1=1, axis2=2)
    square = (vector**2 + np.trace(matrices @ matrices, axis1=1, axis2=2)) / 2
    marks = _Landmarks(group)
    found: list[ModeSymmetry] = []
    starts = np.flatnonzero(np.diff(frequencies) > SAME) + 1
    for near in np.split(np.arange(len(frequencies)), starts) if len(frequencies) else []:
        for part in _irreducible(modes[near], moves):
            characters = np.einsum("ma,gab,mb->g", part, moves, part, optimize=True)
            symmetry = ModeSymmetry(
                marks.name(characters, len(part)),
                bool(np.mean(characters * vector) > 0.5),
                bool(np.mean(characters * square) > 0.5),
            )
            found += [symmetry] * len(part)
    return found


def _move(operation: Operation) -> FloatArray:
    """P_g on displacements of all atoms."""
    atoms = len(operation.to)
    permutation = np.zeros((atoms, atoms))
    permutation[operation.to, np.arange(atoms)] = 1
    return np.kron(permutation, operation.matrix)


def _irreducible(modes: FloatArray, moves: FloatArray) -> list[FloatArray]:
    """Parts of a set of modes that no operation mixes.

    They are eigenspaces of matrices that commute with all operations, averages of random ones; several, for
    one may have two eigenvalues near each other.
    """
    parts = [modes]
    for seed in range(DRAWS):
        parts = [piece for part in parts for piece in _divided(part, moves, seed)]
    return parts


def _divided(modes: FloatArray, moves: FloatArray, seed: int) -> list[FloatArray]:
    if len(modes) == 1:
        return [modes]
    draw = np.random.default_rng(seed).normal(size=(len(modes),) * 2)
    within = np.einsum("ma,gab,nb->gmn", modes, moves, modes, optimize=True)
    averaged = np.einsum("gmn,nk,glk->ml", within, draw + draw.T, within, optimize=True) / len(moves)
    values, vectors = np.linalg.eigh(averaged)
    cuts = np.flatnonzero(np.diff(values) > APART) + 1
    return [vectors[:, part].T @ modes for part in np.split(np.arange(len(values)), cuts)]


class _Landmarks:
    """The operations of a group that Mulliken's symbols are told by, and the symbols themselves."""

    def __init__(self, group: PointGroup):
        self.group = group
        operations = list(group.operations)
        self.inversion = next((n for n, o in enumerate(operations) if o.is_inversion), None)
        self.cubic = group.name[0] in "TOI"
        self.axial = not self.cubic and group.name not in ("C1", "Ci", "Cs", "Kh") and not group.linear
        self.horizontal: int | None = None
        self.turn: int | None = None
        self.side: int | None = None
        self.twofold: list[int] = []
        if group.name == "Cs":
            self.horizontal = next(n for n, o in enumerate(operations) if o.is_reflection)
        if self.cubic:
            self.turn = self._cubic_turn(operations)
        if self.axial:
            self._find(operations)

    def name(self, characters: FloatArray, dimension: int) -> str:
        """Mulliken's symbol."""
        ending = self._parity(characters)
        if self.group.linear:
            letter = {1: "Σ", 2: "Π"}.get(dimension, "?")
            return letter + ending + ("⁺" if dimension == 1 else "")
        if self.cubic:
            return self._cubic(characters, dimension) + ending
        if not self.axial:
            return "A" + ending
        if self.twofold:  # D2 and D2h: three axes of the same rank
            signs = [characters[n] > 0 for n in self.twofold]
            return ("A" if all(signs) else f"B{signs.index(True) + 1}") + ending
        assert self.turn is not None
        value = characters[self.turn]
        if dimension == 2:
            order = self.group.operations[self.turn].order
            index = round(float(np.arccos(np.clip(value / 2, -1, 1)) / (2 * np.pi) * order))
            return "E" + (str(index) if order > 4 else "") + ending
        side = "" if self.side is None else ("1" if characters[self.side] > 0 else "2")
        return ("A" if value > 0 else "B") + side + ending

    def _parity(self, characters: FloatArray) -> str:
        if self.inversion is not None:
            return "g" if characters[self.inversion] > 0 else "u"
        if self.horizontal is not None:
            return "'" if characters[self.horizontal] > 0 else "''"
        return ""

    def _cubic_turn(self, operations: list[Operation]) -> int | None:
        """C5 of I, C4 of O, S4 of Td."""
        kind = {"I": (5, True), "O": (4, True), "Td": (4, False)}
        wanted = kind.get(self.group.name, kind.get(self.group.name[0]))
        if wanted is None:
            return None
        return next(n for n, o in enumerate(operations) if (o.order, o.proper) == wanted and o.is_first)

    def _cubic(self, characters: FloatArray, dimension: int) -> str:
        letter = {1: "A", 2: "E", 3: "T", 4: "G", 5: "H"}.get(dimension, "?")
        numbered = dimension == 3 or (dimension == 1 and self.group.name[0] != "I")
        if self.turn is None or not numbered:
            return letter
        return letter + ("1" if characters[self.turn] > 0 else "2")

    def _find(self, operations: list[Operation]) -> None:
        group, name = self.group, self.group.name
        if name in ("D2", "D2h"):
            self.twofold = self._ranked_axes(operations)
            return
        main = principal_axis(group.operations)
        along = [n for n, o in enumerate(operations) if abs(o.axis @ main) > 0.99]
        rotations = [n for n in along if operations[n].proper and operations[n].is_first]
        largest = max(rotations, key=lambda n: operations[n].order)
        improper = [n for n in along if not operations[n].proper and operations[n].is_first]
        doubled = [n for n in improper if operations[n].order == 2 * operations[largest].order]
        even = operations[largest].order % 2 == 0
        # S4, S8, ... stand above the rotation; S6, S10, ... are a rotation and the inversion
        self.turn = doubled[0] if doubled and even else largest
        flat = [n for n in along if operations[n].is_reflection]
        self.horizontal = flat[0] if flat else None
        across = [
            n for n, o in enumerate(operations) if o.order == 2 and o.proper and abs(o.axis @ main) < 0.1
        ]
        upright = [n for n, o in enumerate(operations) if o.is_reflection and abs(o.axis @ main) < 0.1]
        if across:
            self.side = max(across, key=lambda n: self._on_axis(operations[n].axis))
        elif upright:
            # of C2v by convention the plane across that of the molecule, else the one with most atoms
            choose = min if name == "C2v" else max
            self.side = choose(upright, key=lambda n: self._in_plane(operations[n].axis))

    def _ranked_axes(self, operations: list[Operation]) -> list[int]:
        """z, y and x: z passes through most atoms, and x is across a flat molecule."""
        axes = distinct_axes(self.group.operations, 2)
        across = min(axes, key=lambda axis: np.abs(self.group.centered @ axis).sum())
        rest = sorted((a for a in axes if a is not across), key=lambda axis: -self._on_axis(axis))
        ranked = [*rest, across]
        return [
            next(
                n for n, o in enumerate(operations) if o.proper and o.order == 2 and abs(o.axis @ axis) > 0.99
            )
            for axis in ranked
        ]

    def _on_axis(self, axis: FloatArray) -> int:
        distances = np.linalg.norm(np.cross(self.group.centered, axis), axis=1)
        return int((distances < THROUGH).sum())

    def _in_plane(self, normal: FloatArray) -> int:
        return int((np.abs(self.group.centered @ normal) < THROUGH).sum())
