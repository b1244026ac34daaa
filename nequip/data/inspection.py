"""What a set of frames holds: structures, labels and their ranges, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula

from nequip.data.frame import FloatArray, Frame
from nequip.data.neighbors import shortest_distance
from nequip.data.sources import FrameSource, frame_name
from nequip.errors import DataError

SHOWN_PROBLEMS = 10
_CELL_KINDS = ("no cell", "wire", "slab", "bulk")  # by the number of periodic directions


@dataclass
class Range:
    """Smallest, largest and root mean square of the numbers that were added."""

    count: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    squares: float = 0.0

    def add(self, values: FloatArray) -> None:
        """Take in `values`, NaN left out."""
        values = values[np.isfinite(values)]
        if len(values):
            self.count += len(values)
            self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
            self.squares += float((values**2).sum())

    @property
    def rms(self) -> float:
        return float(np.sqrt(self.squares / max(self.count, 1)))


@dataclass
class Inspection:
    """The findings; counts are of frames where nothing else is said."""

    frames: int = 0
    atoms: int = 0
    smallest: int = 0  # atoms of the smallest frame
    largest: int = 0
    elements: Counter[str] = field(default_factory=Counter[str])  # atoms
    compositions: Counter[str] = field(default_factory=Counter[str])
    groups: Counter[str] = field(default_factory=Counter[str])
    cells: Counter[str] = field(default_factory=Counter[str])
    labels: Counter[str] = field(default_factory=Counter[str])
    atoms_without_force: int = 0  # in frames that have forces
    energy_per_atom: Range = field(default_factory=Range)  # eV
    forces: Range = field(default_factory=Range)  # eV/Å, components
    stress: Range = field(default_factory=Range)  # eV/Å³, components
    shortest_distance: float = float("inf")  # Å
    shortest_in: str = ""  # the frame it is in
    label_keys: list[str] = field(default_factory=list[str])
    num_problems: int = 0
    problems: list[str] = field(default_factory=list[str])  # the first of them

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is infinite is None."""
        return {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}


def inspect(source: FrameSource, indices: Iterable[int]) -> Inspection:
    """One pass over the frames `indices` of `source`; what is wrong with frames is kept as sentences."""
    found = Inspection(label_keys=source.label_keys())
    for index in indices:
        frame, where = source[index], frame_name(source, index)
        _count(found, frame)
        try:
            distance = shortest_distance(frame, where=where)
        except DataError as error:
            found.num_problems += 1
            if len(found.problems) < SHOWN_PROBLEMS:
                found.problems.append(str(error))
            continue
        if distance < found.shortest_distance:
            found.shortest_distance, found.shortest_in = distance, where
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Counter):
        return dict(value)
    if isinstance(value, Range):
        return {"count": value.count, "low": _plain(value.low), "high": _plain(value.high), "rms": value.rms}
    return None if isinstance(value, float) and np.isinf(value) else value


def _count(found: Inspection, frame: Frame) -> None:
    symbols = [chemical_symbols[number] for number in frame.numbers.tolist()]
    found.smallest = min(found.smallest, frame.num_atoms) if found.frames else frame.num_atoms
    found.largest = max(found.largest, frame.num_atoms)
    found.frames += 1
    found.atoms += frame.num_atoms
    found.elements.update(symbols)
    found.compositions[Formula.from_list(symbols).format("hill")] += 1
    found.groups[frame.group] += 1
    found.cells[_CELL_KINDS[sum(frame.pbc)]] += 1
    if frame.energy is not None:
        found.labels["energy"] += 1
        found.energy_per_atom.add(np.array([frame.energy / frame.num_atoms]))
    if frame.forces is not None:
        found.labels["forces"] += 1
        found.forces.add(frame.forces)
        found.atoms_without_force += int(np.isnan(frame.forces).any(axis=1).sum())
    if frame.stress is not None:
        found.labels["stress"] += 1
        found.stress.add(frame.stress)
