from __future__ import annotations

import numpy as np
import pytest
from crystals_of_symmetry import CRYSTALS
from small_potentials import graph_of, small_potential

from nequip.phonons.bloch import BlochHessian
from nequip.phonons.crystal import Phonons
from nequip.phonons.space_group import space_operations
from nequip.phonons.symmetry import grid_force_constants

MESHES = {
    "rock salt": (3, 3, 3),
    "diamond": (3, 3, 2),
    "hexagonal": (3, 3, 2),
    "rutile": (2, 2, 3),
    "triclinic": (2, 1, 2),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_what_symmetry_gives_is_what_derivatives_give(name: str):
    potential = small_potential("nequip")
    grid, found = grid_force_constants(Phonons(potential, CRYSTALS[name]), MESHES[name])
    direct = BlochHessian(potential, graph_of(potential, CRYSTALS[name]))(grid).numpy().reshape(found.shape)
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
