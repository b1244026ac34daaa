from __future__ import annotations

import numpy as np
import pytest
from crystals_of_symmetry import CRYSTALS
from small_potentials import MODELS, graph_of, small_potential

from nequip.data.frame import FloatArray
from nequip.phonons.bloch import BlochHessian
from nequip.phonons.crystal import Phonons

# Γ, on lines, on planes, at the border of the zone and beyond it, and anywhere.
Q = np.array(
    [
        [0, 0, 0],
        [0.5, 0, 0],
        [0.5, 0.5, 0.5],
        [0.5, 0.5, 0],
        [0.2, 0, 0],
        [0.2, 0.2, 0],
        [0.3, 0.3, 0.3],
        [1 / 3, 1 / 3, 0.5],
        [0.1, 0.25, 0],
        [0, 0.5, 0.37],
        [1.2, -0.8, 2.0],
        [0.11, 0.23, 0.37],
    ]
)


@pytest.mark.parametrize("crystal", CRYSTALS)
def test_a_few_products_give_the_whole_matrix(crystal: str):
    potential = small_potential("nequip")
    direct = BlochHessian(potential, graph_of(potential, CRYSTALS[crystal]))(Q).numpy()
    found = Phonons(potential, CRYSTALS[crystal]).force_constants(Q)
    assert np.abs(direct).max() > 1e-3
    assert np.abs(found - direct).max() < 1e-9


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_has_the_symmetry_that_is_used(name: str):
    potential = small_potential(name)
    direct = BlochHessian(potential, graph_of(potential, CRYSTALS["rutile"]))(Q).numpy()
    assert np.abs(Phonons(potential, CRYSTALS["rutile"]).force_constants(Q) - direct).max() < 1e-9


@pytest.mark.parametrize(
    ("q", "number"), [([0, 0, 0], 1), ([0.5, 0, 0.5], 1), ([0.1, 0, 0.1], 1), ([0.11, 0.23, 0.37], 3)]
)
def test_products_are_as_few_as_symmetry_allows(q: list[float], number: int, monkeypatch: pytest.MonkeyPatch):
    """Rock salt at Γ, X, on Δ and anywhere."""
    phonons = Phonons(small_potential("nequip"), CRYSTALS["rock salt"])
    asked: list[int] = []
    products = BlochHessian.products

    def counted(self: BlochHessian, u: FloatArray, waves: FloatArray):
        asked.append(len(u))
        return products(self, u, waves)

    monkeypatch.setattr(BlochHessian, "products", counted)
    phonons.force_constants(q)
    assert asked == [number]


def test_a_potential_that_ignores_parity_is_not_mirrored():
    """Of the 48 operations of rock salt 24 are rotations, each with time reversal and without."""
    potential = small_potential("nequip", parity="ignored")
    assert len(Phonons(potential, CRYSTALS["rock salt"]).operations) == 48
