from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from small_potentials import ice, small_potential

from nequip.phonons.crystal import Phonons
from nequip.phonons.symmetry import grid_force_constants, space_operations

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
MESHES = {
    "rock salt": (3, 3, 3),
    "diamond": (3, 3, 2),
    "hexagonal": (3, 3, 2),
    "rutile": (2, 2, 3),
    "triclinic": (2, 1, 2),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_what_symmetry_gives_is_what_derivatives_give(name: str):
    phonons = Phonons(small_potential("nequip"), CRYSTALS[name])
    grid, found = grid_force_constants(phonons, MESHES[name])
    direct = phonons.force_constants(grid).reshape(found.shape)
    assert np.abs(direct).max() > 1e-3
    assert np.abs(found - direct).max() < 1e-8


def test_few_points_are_differentiated(monkeypatch: pytest.MonkeyPatch):
    phonons = Phonons(small_potential("nequip"), CRYSTALS["rock salt"])
    asked: list[int] = []
    constants = phonons.force_constants
    monkeypatch.setattr(phonons, "force_constants", lambda q: asked.append(len(q)) or constants(q))
    grid_force_constants(phonons, (4, 4, 4))
    assert asked == [8]


@pytest.mark.parametrize(("name", "number"), [("rock salt", 48), ("rutile", 16), ("triclinic", 1)])
def test_space_group_with_time_reversal(name: str, number: int):
    assert len(space_operations(CRYSTALS[name])) == 2 * number
