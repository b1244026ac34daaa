"""Structures of many space groups."""

from __future__ import annotations

from ase import Atoms
from ase.build import bulk
from small_potentials import ice

# Symmorphic and not, one atom to six, cubic to triclinic; some atoms lie outside their cell.
CRYSTALS = {
    "rock salt": bulk("OH", "rocksalt", a=4.2),
    "diamond": bulk("O", "diamond", a=3.4),
    "hexagonal": bulk("O", "hcp", a=2.3, c=3.9),
    "rutile": Atoms(
        "O2H4",
        scaled_positions=[
            [0, 0, 0], [0.5, 0.5, 0.5], [0.3, 0.3, 0], [-0.3, -0.3, 0], [0.8, 0.2, 0.5], [0.2, 0.8, 0.5]
        ],
        cell=[4.4, 4.4, 2.9],
        pbc=True,
    ),
    "triclinic": ice(),
}  # fmt: skip
