"""One structure with its labels, as it comes from a file: plain arrays, no edges, no tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nequip.data.force_constants import ForceConstants

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Frame:
    """A structure in eV and Å with the labels it has; a label that is missing is None.

    `forces` may hold NaN rows for atoms without a label. `stress` has ASE's sign.
    """

    numbers: NDArray[np.int64]  # [atom] atomic numbers
    positions: FloatArray  # [atom, 3] Å
    cell: FloatArray = field(default_factory=lambda: np.zeros((3, 3)))  # rows; zeros: no cell
    pbc: tuple[bool, bool, bool] = (False, False, False)
    energy: float | None = None  # eV
    forces: FloatArray | None = None  # [atom, 3] eV/Å
    stress: FloatArray | None = None  # [3, 3] eV/Å³
    hessian: FloatArray | None = None  # [coordinate, coordinate] eV/Å², symmetric
    force_constants: ForceConstants | None = None  # of a crystal whose primitive cell this is
    dipole: FloatArray | None = None  # [3] e·Å
    polarizability: FloatArray | None = None  # [3, 3] e·Å²/V, symmetric
    born_charges: FloatArray | None = None  # [atom, 3, 3] e, change of dipole_i by x_j as [atom, i, j]
    weight: float = 1.0
    group: str = ""  # what metrics and by-group splits tell frames apart by

    @property
    def num_atoms(self) -> int:
        return len(self.numbers)
