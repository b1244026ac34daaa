"""What `nequip data` finds, as tables for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import isfinite

from nequip.data.inspection import Inspection, Range
from nequip.data.statistics import Statistics

_MOST = 8  # entries of a counter that are shown


def inspection_table(found: Inspection) -> str:
    """The findings, a line for each; problems at the end."""
    sizes = str(found.smallest) if found.smallest == found.largest else f"{found.smallest} to {found.largest}"
    distance = (
        "none"
        if not isfinite(found.shortest_distance)
        else (f"{found.shortest_distance:.3f} Å  ({found.shortest_in})")
    )
    rows = [
        ("frames", f"{found.frames}, {found.atoms} atoms, {sizes} in a frame"),
        ("elements", _most(found.elements)),
        ("compositions", _most(found.compositions)),
        ("cells", _most(found.cells)),
        ("groups", _most(found.groups, "without a group")),
        ("energy", _label(found, "energy", found.energy_per_atom, "eV/atom")),
        ("forces", _label(found, "forces", found.forces, "eV/Å")),
        ("stress", _label(found, "stress", found.stress, "eV/Å³")),
        ("keys seen", ", ".join(found.label_keys) or "none"),
        ("shortest distance", distance),
    ]
    if found.num_problems:
        rows.append(("problems", f"{found.num_problems} of {found.frames} frames"))
        rows += [("", problem) for problem in found.problems]
    return _aligned(rows)


def statistics_table(found: Statistics) -> str:
    """Overall numbers, then a line for each type."""
    rows = [
        ("frames", f"{found.num_frames}, {found.num_atoms} atoms"),
        ("neighbors", f"{found.avg_num_neighbors:.3f} on average"),
        ("shortest distance", f"{found.shortest_distance:.3f} Å"),
        ("RMS of forces", _number(found.forces_rms, "eV/Å")),
        ("deviation of energies", _number(found.energy_rms, "eV per square root of atoms, from the shifts")),
    ]
    lines = [f"{'type':6}{'atoms':>10}{'neighbors':>12}{'shift (eV)':>16}{'force RMS (eV/Å)':>19}"]
    for name in found.type_names:
        shift = (found.per_type_energy_shifts or {}).get(name)
        force = (found.per_type_forces_rms or {}).get(name)
        lines.append(
            f"{name:6}{found.num_atoms_per_type[name]:>10}{found.per_type_num_neighbors[name]:>12.3f}"
            f"{_number(shift):>16}{_number(force):>19}"
        )
    return "\n".join([_aligned(rows), "", *lines])


def _aligned(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{name:24}{text}" for name, text in rows)


def _number(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.4f} {unit}".rstrip()


def _most(counts: Counter[str], unnamed: str = "") -> str:
    shown = [f"{name or unnamed} ({count})" for name, count in counts.most_common(_MOST)]
    rest = len(counts) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _label(found: Inspection, label: str, values: Range, unit: str) -> str:
    missing = found.frames - found.labels[label]
    if missing == found.frames:
        return "missing everywhere"
    text = f"{values.low:.4f} to {values.high:.4f} {unit}"
    if label != "energy":
        text += f", RMS {values.rms:.4f}"
    if missing:
        text += f"; missing in {missing} frames"
    if label == "forces" and found.atoms_without_force:
        text += f"; missing for {found.atoms_without_force} atoms of the others"
    return text
