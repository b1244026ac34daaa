"""`nequip compile`: a saved potential as a file that runs without Python."""

from __future__ import annotations

import argparse
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from nequip.cli.computation import add_computation_options
from nequip.errors import ConfigError

if TYPE_CHECKING:
    from nequip.model.potential import Potential

EXAMPLES = """\
examples:
  nequip-compile best.nequip water.nequip.pt2 --target lammps
  nequip-compile best.nequip water.nequip.pt2 --target ase --dtype float64
  nequip-compile best.nequip water.nequip.pt2 --target batch --device cuda

MODEL is anything that nequip.load reads. The file is read back and compared before it is kept.
`nequip info water.nequip.pt2` prints what it says of itself.
"""
OWN_TOLERANCE = inf  # --radial-table without a number: that of the model
TORCHSCRIPT = (
    "--mode torchscript is gone, as TorchScript is from torch: leave --mode out, and use the file with "
    "NequIPCalculator, TorchSim or our LAMMPS plugin, which all read what AOTInductor compiles."
)


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.description = (
        "Compile a saved potential for ASE, LAMMPS or TorchSim: one file, no Python needed to run."
    )
    parser.epilog = EXAMPLES
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="a .nequip file, or another that nequip.load reads"
    )
    parser.add_argument("output", type=Path, metavar="OUT.nequip.pt2", help="where to write")
    parser.add_argument(
        "--target",
        choices=["ase", "lammps", "batch"],
        default="ase",
        help="what will run it; batch: TorchSim (ase)",
    )
    parser.add_argument(
        "--radial-table",
        nargs="?",
        type=_tolerance,
        const=OWN_TOLERANCE,
        metavar="TOL",
        help="splines in the place of radial networks, to this relative error (1e-8 in float32, where they "
        "are the default; 1e-11 in float64; off: never)",
    )
    parser.add_argument(
        "--mode", choices=["aotinductor", "torchscript"], default="aotinductor", help="aotinductor"
    )
    add_computation_options(parser)
    parser.set_defaults(run=run)


def _tolerance(text: str) -> float:
    if text == "off":
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither an error between 0 and 1 nor off")
    return value


def run(options: argparse.Namespace) -> None:
    """Load, compile, compare, and say what was written."""
    if options.mode == "torchscript":
        raise ConfigError(TORCHSCRIPT)
    from nequip.export.export import ExportSettings, check_path, export

    check_path(options.output)
    start = time.monotonic()
    potential, head = _load(options)
    own = options.radial_table == OWN_TOLERANCE
    table = potential.table_tolerance if own else options.radial_table
    settings = ExportSettings(options.target, table, head)
    card = export(potential, options.output, settings)
    megabytes = options.output.stat().st_size / 1e6
    radial = "exact radial networks"
    if card.radial_table_error is not None:
        radial = f"radial tables to {card.radial_table_error:.1g}"
    print(
        f"{options.output}: {card.architecture} for {card.target} on {card.device} ({card.instruction_set}), "
        f"{card.dtype}, {radial}, {megabytes:.1f} MB, in {time.monotonic() - start:.0f} s; equal to the "
        "original on structures of 1 to 125 atoms."
    )


def _load(options: argparse.Namespace) -> tuple[Potential, int]:
    """The potential, and which of its readouts to ask: a file of another package comes with one alone."""
    from nequip.errors import did_you_mean
    from nequip.interop import load
    from nequip.interop.recognition import is_safetensors
    from nequip.model.device import find_device

    device = find_device(options.device)
    if not is_safetensors(options.model) or options.head is None:
        return load(options.model, device, options.dtype, options.backend, options.head), 0
    potential = load(options.model, device, options.dtype, options.backend)
    if options.head not in potential.heads:
        raise ConfigError(
            f"{options.model} has no head {options.head!r}{did_you_mean(options.head, potential.heads)}: it "
            f"has {', '.join(potential.heads)}."
        )
    return potential, potential.heads.index(options.head)
