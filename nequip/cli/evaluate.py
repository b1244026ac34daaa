"""`nequip evaluate`: a saved potential against reference data."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nequip.cli.computation import add_computation_options
from nequip.cli.frames import add_label_options, make_folder, open_frames

if TYPE_CHECKING:
    from nequip.data.dataset import GraphDataset
    from nequip.model.potential import Potential
    from nequip.train.evaluation import Evaluation

EXAMPLES = """\
examples:
  nequip-evaluate outputs/best.nequip test.xyz
  nequip-evaluate best.nequip set:rmd17_ethanol --output errors --batch-size 100
  nequip-evaluate best.nequip other.xyz --energy-key dft_energy --json

DATA is a path, a pattern in quotes, a store written by nequip-data convert, or set:NAME.
"""
FILES = """\
In {folder}:
  report.html         everything on one page
  figures/            the same plots as PNG
  predictions.xyz     every frame with REF_ and pred_ energy, forces, stress
  errors.json         the table in eV and Å"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.description = (
        "Errors of a saved potential on frames with energies, forces, stress, Hessians, and a report."
    )
    parser.epilog = EXAMPLES
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="a .nequip file, or one that nequip-convert reads"
    )
    parser.add_argument("data", metavar="DATA", help="path, 'pattern', store or set:NAME")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("evaluation"), metavar="DIR", help="(evaluation)"
    )
    parser.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="frames in a call (32)")
    parser.add_argument(
        "--memory", type=float, default=2.0, metavar="GB", help="for Hessians, where frames have them (2)"
    )
    add_computation_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_label_options(parser)
    parser.set_defaults(run=run)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def run(options: argparse.Namespace) -> None:
    """Evaluate, write the report, print the table."""
    from nequip.interop import load
    from nequip.model.device import find_device
    from nequip.phonons.errors import hessian_errors
    from nequip.plotting import write_report
    from nequip.plotting.tables import error_table
    from nequip.train.evaluation import evaluate

    potential = load(options.model, find_device(options.device), options.dtype, options.backend, options.head)
    dataset = _dataset(potential, options)
    folder = make_folder(options.output)
    evaluation = evaluate(potential, dataset, batch_size=options.batch_size, progress="evaluating")
    second_order = hessian_errors(potential, dataset, options.memory)
    evaluation = replace(evaluation, errors=evaluation.errors | second_order)
    write_report({"": evaluation}, None, folder)
    summary = json.dumps(_summary(options, evaluation), indent=2)
    (folder / "errors.json").write_text(summary + "\n", encoding="utf-8")
    if options.json:
        print(summary)
        return
    print(f"{evaluation.num_frames} frames, {len(evaluation.types)} atoms of {evaluation.source.name}\n")
    print(
        error_table(evaluation.errors).text() if evaluation.errors else "There are no labels to compare with."
    )
    print("\n" + FILES.format(folder=folder))


def _dataset(potential: Potential, options: argparse.Namespace) -> GraphDataset:
    """Every frame but those of isolated atoms, which training leaves out of its errors too."""
    from nequip.data.dataset import GraphDataset
    from nequip.data.neighbors import TypeMapper
    from nequip.data.sources import separate_isolated_atoms

    source = open_frames(options.data, options)
    frames, _ = separate_isolated_atoms(source)
    names = source.groups()
    groups = tuple(dict.fromkeys(names[index] for index in frames)) or ("",)
    mapper = TypeMapper(potential.card.type_names)
    return GraphDataset(source, frames, mapper, potential.cutoffs, groups=groups)


def _summary(options: argparse.Namespace, evaluation: Evaluation) -> dict[str, object]:
    return {
        "model": str(options.model),
        "data": options.data,
        "num_frames": evaluation.num_frames,
        "num_atoms": len(evaluation.types),
        "units": {
            "energy": "eV",
            "forces": "eV/Å",
            "stress": "eV/Å³",
            "hessian": "eV/Å²",
            "frequencies": "cm⁻¹",
            "dipole": "e·Å",
            "polarizability": "e·Å²/V",
            "born_charges": "e",
        },
        "errors": evaluation.errors,
    }
