from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from small_potentials import Springs

from nequip.calculators import NequIPCalculator
from nequip.errors import DataError
from nequip.phonons.relax import relax


def test_lattice_comes_to_the_length_of_its_springs():
    atoms = bulk("Cu", "fcc", a=3.7)
    atoms.calc = NequIPCalculator(Springs(2.0, 3.6 / np.sqrt(2), r_max=3.2))
    relaxed = relax(atoms, 1e-4, cell=True)
    assert relaxed.cell.lengths() == pytest.approx(3.6 / np.sqrt(2), abs=1e-4)
    assert atoms.cell.lengths() == pytest.approx(3.7 / np.sqrt(2))


def test_what_does_not_come_to_rest_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nequip.phonons.relax.MOST_STEPS", 2)
    atoms = bulk("Cu", "fcc", a=3.7)
    atoms.calc = NequIPCalculator(Springs(2.0, 3.6 / np.sqrt(2), r_max=3.2))
    with pytest.raises(DataError, match="does not come to rest"):
        relax(atoms, 1e-12, cell=True)
