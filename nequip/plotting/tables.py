"""The table of errors, in meV, me and Å: for all frames, by type of atom, by group of frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nequip.plotting.style import significant
from nequip.units import MEV

# Quantity of ErrorMetrics -> heading.
COLUMNS = {
    "energy_per_atom": "energy, meV/atom",
    "forces": "forces, meV/Å",
    "stress": "stress, meV/Å³",
    "hessian": "Hessian, meV/Å²",
    "frequencies": "frequencies, cm⁻¹",
    "dipole": "dipole, me·Å",
    "polarizability": "polarizability, me·Å²/V",
    "born_charges": "Born charges, me",
}
AS_THEY_ARE = ("frequencies",)  # not in thousandths
KINDS = {"mae": "MAE", "rmse": "RMSE"}


@dataclass(frozen=True)
class ErrorTable:
    """Cells as text; `headings` name all columns, the first that of the rows, each "words, unit"."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """For a terminal: columns aligned, numbers to the right, units on a line of their own."""
        parts = [heading.partition(", ") for heading in self.headings]
        lines = [tuple(words for words, _, _ in parts), tuple(unit for _, _, unit in parts), *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.headings))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )


def error_table(errors: Mapping[str, float]) -> ErrorTable:
    """`ErrorMetrics.compute()` as rows and columns; what is nowhere known has no column.

    Energies are per atom; those of whole frames stay in the dictionary.
    """
    columns = [
        (f"{quantity}_{kind}", f"{KINDS[kind]} {heading}")
        for quantity, heading in COLUMNS.items()
        for kind in KINDS
        if f"{quantity}_{kind}" in errors
    ]
    suffixes = dict.fromkeys("/".join(name.split("/")[1:]) for name in errors)
    rows = tuple(
        (
            _row_name(suffix),
            *(_cell(name, errors.get(f"{name}/{suffix}" if suffix else name)) for name, _ in columns),
        )
        for suffix in suffixes
    )
    return ErrorTable(("", *(heading for _, heading in columns)), rows)


def _row_name(suffix: str) -> str:
    if not suffix:
        return "all"
    if suffix == "type_mean":
        return "mean over types"
    if suffix.startswith("group="):
        return f"group {suffix.removeprefix('group=') or '(none)'}"
    return f"atoms of {suffix}"


def _cell(name: str, error: float | None) -> str:
    return "" if error is None else error_text(name, error)


def error_text(name: str, error: float) -> str:
    """The error of a quantity in the unit of its column; one that is not a number says so."""
    factor = 1.0 if name.startswith(AS_THEY_ARE) else MEV
    return "NaN" if math.isnan(error) else significant(error * factor)
