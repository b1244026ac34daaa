"""The potential and the structure that a computation in ASE is about: options for them, and opening them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nequip.config import CACHE_DIR

if TYPE_CHECKING:
    from ase import Atoms

    from nequip.calculators import NequIPCalculator


def add_structure_options(parser: argparse.ArgumentParser, name: str, summary: str) -> None:
    """Which potential, and of what: MODEL, `name`, `--index`, `--cache-dir`."""
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="a .nequip file, or one that nequip-convert reads"
    )
    parser.add_argument("structure", metavar=name, help=f"{summary}: a file, or set:NAME")
    parser.add_argument("--index", type=int, default=0, metavar="N", help="frame of the file (0)")
    parser.add_argument("--cache-dir", default=CACHE_DIR, metavar="DIR", help=f"of named sets ({CACHE_DIR})")


def add_rest_options(parser: argparse.ArgumentParser) -> None:
    """How close to rest, and how much memory second derivatives may take."""
    parser.add_argument("--max-force", type=float, default=1e-3, metavar="F", help="at rest, eV/Å (0.001)")
    parser.add_argument("--no-relax", action="store_true", help="take the structure as it is")
    parser.add_argument("--memory", type=float, default=2.0, metavar="GB", help="for derivatives (2)")


def open_structure(options: argparse.Namespace) -> Atoms:
    """The frame that was asked for, without its labels.

    Raises:
        DataError: for a file or a frame that is not there.
    """
    from ase import Atoms

    from nequip.data.sources import locate, open_source
    from nequip.errors import DataError

    source = open_source(locate(options.structure, options.cache_dir))
    if not -len(source) <= options.index < len(source):
        raise DataError(
            f"{source.name} has {len(source)} frames, so there is no frame {options.index}: "
            f"give --index from 0 to {len(source) - 1}."
        )
    frame = source[options.index % len(source)]
    return Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)


def open_calculator(options: argparse.Namespace) -> NequIPCalculator:
    """A calculator for second derivatives: in float64 unless another dtype is asked for, without tables.

    Raises:
        CheckpointError: if the file cannot be read.
        ModelError: for a potential without forces.
    """
    from nequip.calculators import NequIPCalculator
    from nequip.errors import ModelError
    from nequip.interop import load

    potential = load(
        options.model,
        device=options.device,
        dtype=options.dtype or "float64",
        backend=options.backend,
        head=options.head,
    )
    if potential.card.energy_only:
        raise ModelError(f"{options.model} predicts energies only: vibrations need a potential with forces.")
    return NequIPCalculator(potential, device=options.device, radial_tables=False)
