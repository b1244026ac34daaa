"""Force constants from phonopy's files: one frame, the primitive cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nequip.data.force_constants import folded
from nequip.data.frame import Frame
from nequip.data.sources.ase_files import MemorySource
from nequip.data.sources.source import file_sha256
from nequip.errors import DataError

if TYPE_CHECKING:
    from phonopy import Phonopy

# Files beside phonopy.yaml in which phonopy looks for what it lacks.
_CONSTANTS, _FORCES = ("FORCE_CONSTANTS", "force_constants.hdf5"), ("FORCE_SETS",)


def read_phonopy_file(path: Path) -> MemorySource:
    """The primitive cell of `phonopy.yaml`, with the force constants in it or in a file beside it.

    Where there are forces on displaced supercells alone, phonopy makes constants of them. What it adds for
    the field of polar crystals (BORN) is no part of these.

    Raises:
        DataError: for a file that phonopy does not read, without constants, or where it is not installed.
    """
    try:
        import phonopy
    except ImportError:
        raise DataError(
            f'{path} is a file of phonopy, which is not installed: pip install "e3forge[phonons]".'
        ) from None
    try:
        cells = phonopy.load(
            path,
            is_nac=False,
            force_constants_filename=_beside(path, _CONSTANTS),
            force_sets_filename=_beside(path, _FORCES),
        )
    except Exception as error:
        raise DataError(f"{path} cannot be read as a file of phonopy: {error}") from error
    if cells.force_constants is None:
        raise DataError(
            f"{path} has no force constants, and no {', '.join(_CONSTANTS + _FORCES)} lies beside it: "
            "save it with them."
        )
    files = [path, *(path.with_name(name) for name in _CONSTANTS + _FORCES)]
    digests = [file_sha256(file) for file in files if file.exists()]
    return MemorySource(str(path), [_frame(cells)], "".join(digests), ["force_constants"])


def _frame(cells: Phonopy) -> Frame:
    primitive, supercell = cells.primitive, cells.supercell
    constants = cells.force_constants
    assert constants is not None
    if len(constants) == len(supercell):
        constants = constants[primitive.p2s_map]
    inverse = np.linalg.inv(primitive.cell)
    owner = np.array([primitive.p2p_map[atom] for atom in primitive.s2p_map], dtype=np.int64)
    shift = np.round((supercell.positions - primitive.positions[owner]) @ inverse).astype(np.int64)
    multiples = np.round(supercell.cell @ inverse).astype(np.int64)
    return Frame(
        numbers=np.array(primitive.numbers, dtype=np.int64),
        positions=np.array(primitive.positions),
        cell=np.array(primitive.cell),
        pbc=(True, True, True),
        force_constants=folded(np.array(constants), owner, shift, multiples),
    )


def _beside(path: Path, names: tuple[str, ...]) -> Path | None:
    """The first that is there; phonopy by itself looks into the working directory."""
    return next((path.with_name(name) for name in names if path.with_name(name).exists()), None)
