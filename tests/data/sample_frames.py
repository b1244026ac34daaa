"""Frames and files for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import write

from nequip.data.frame import Frame

GROUPS = ["cold", "hot"]


def random_structures(count: int, seed: int = 0) -> list[Atoms]:
    """Water molecules bent at random in a box, with energies, forces and a group; every third has stress."""
    rng = np.random.default_rng(seed)
    structures = []
    for number in range(count):
        atoms = Atoms("OH2" * (1 + number % 2), cell=np.diag(rng.uniform(6, 7, 3)), pbc=True)
        centers = np.repeat([[0.0, 0, 0], [3.0, 3, 0]], 3, axis=0)[: len(atoms)]
        shape = np.tile([[0.0, 0, 0], [0.9, 0, 0], [0, 0.9, 0]], (len(atoms) // 3, 1))
        atoms.positions = centers + shape + rng.normal(0, 0.05, (len(atoms), 3))
        results = {"energy": rng.normal(-10 * len(atoms)), "forces": rng.normal(0, 1, (len(atoms), 3))}
        if number % 3 == 0:
            results["stress"] = rng.normal(0, 0.01, 6)
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info["config_type"] = GROUPS[number % 2]
        structures.append(atoms)
    return structures


def write_extxyz(path: Path, structures: Sequence[Atoms]) -> Path:
    write(path, structures, format="extxyz")
    return path


def write_database(path: Path, structures: Sequence[Atoms]) -> Path:
    with connect(path) as database:
        for atoms in structures:
            database.write(atoms, **atoms.info)
    return path


def assert_same(first: Frame, second: Frame, atol: float = 0.0) -> None:
    """Positions and forces within `atol`, which text files round; everything else alike."""
    assert first.numbers.tolist() == second.numbers.tolist()
    assert (first.pbc, first.group, first.weight) == (second.pbc, second.group, second.weight)
    for name in ("positions", "cell", "energy", "forces", "stress"):
        one, other = getattr(first, name), getattr(second, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=0, atol=atol, err_msg=name)
