from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase.io import write
from phonopy import Phonopy
from phonopy.file_IO import write_FORCE_CONSTANTS
from phonopy.structure.atoms import PhonopyAtoms

from nequip.data.convert import convert
from nequip.data.frame import Frame
from nequip.data.sources import open_source
from nequip.errors import DataError

# of the conventional cell of rock salt, and of its primitive one
CONVENTIONAL = np.diag([2, 2, 2])
FACES = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]


@cache
def cells() -> Phonopy:
    """Springs of any kind between the atoms of a supercell of rock salt."""
    places = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    halves = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    unit = PhonopyAtoms(["Na"] * 4 + ["Cl"] * 4, cell=np.eye(3) * 5.6, scaled_positions=places + halves)
    made = Phonopy(unit, CONVENTIONAL, primitive_matrix=FACES)
    size = len(made.primitive), len(made.supercell)
    constants = np.random.default_rng(0).normal(size=(*size, 3, 3))
    made.force_constants = constants
    return made


def saved(folder: Path, inside: bool) -> Path:
    cells().save(folder / "phonopy.yaml", settings={"force_constants": inside, "force_sets": False})
    if not inside:
        write_FORCE_CONSTANTS(
            cells().force_constants, folder / "FORCE_CONSTANTS", p2s_map=cells().primitive.p2s_map
        )
    return folder / "phonopy.yaml"


def only_frame(path: Path) -> Frame:
    (frame,) = [open_source(path)[index] for index in range(len(open_source(path)))]
    return frame


def test_waves_are_all_that_fit_into_the_supercell(tmp_path):
    constants = only_frame(saved(tmp_path, True)).force_constants
    assert constants is not None
    waves = constants.waves()
    turns = waves @ constants.supercell.T
    assert len(waves) == 32
    assert len(np.unique(np.round(waves, 9), axis=0)) == 32
    assert np.allclose(turns, np.round(turns), atol=1e-12)
    assert not waves[0].any()


@pytest.mark.parametrize("inside", [True, False], ids=["in the file", "beside it"])
def test_constants_are_the_dynamical_matrices_of_phonopy(tmp_path, inside):
    frame = only_frame(saved(tmp_path, inside))
    constants = frame.force_constants
    assert constants is not None
    roots = np.repeat(cells().primitive.masses, 3) ** 0.5
    waves = constants.waves()
    dynamical = cells().run_qpoints(waves, with_dynamical_matrices=True).dynamical_matrices
    for q, theirs in zip(waves, dynamical * np.outer(roots, roots), strict=True):
        wave = np.exp(2j * np.pi * np.repeat(cells().primitive.scaled_positions @ q, 3))
        at_atoms = wave.conj()[:, None] * constants.at(q) * wave
        hermitian = 0.5 * (at_atoms + at_atoms.conj().T)
        assert np.allclose(hermitian, theirs, atol=1e-8)


def test_a_pattern_may_match_frames_and_constants(tmp_path):
    saved(tmp_path, True)
    write(tmp_path / "phonopy.xyz", [cell_atoms() for _ in range(3)], format="extxyz")
    source = open_source(tmp_path / "phonopy.*")
    found = [source[index].force_constants is not None for index in range(len(source))]
    assert found == [False, False, False, True]


def cell_atoms():
    from ase.build import bulk

    return bulk("NaCl", "rocksalt", a=5.6)


def test_a_file_without_constants_is_refused(tmp_path):
    cells().save(tmp_path / "phonopy.yaml", settings={"force_constants": False, "force_sets": False})
    with pytest.raises(DataError, match=r"has no force constants, and no FORCE_CONSTANTS"):
        open_source(tmp_path / "phonopy.yaml")


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.yaml").write_text("train: {}\n")
    with pytest.raises(DataError, match=r"notes.yaml cannot be read as a file of phonopy"):
        open_source(tmp_path / "notes.yaml")


def test_a_store_takes_no_constants(tmp_path):
    with pytest.raises(DataError, match="a store holds no force constants"):
        convert(saved(tmp_path, True), tmp_path / "store.h5")
