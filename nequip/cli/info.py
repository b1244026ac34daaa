"""`nequip info`: the card of a saved potential."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  nequip info outputs/best.nequip
  nequip info MACE.model
  nequip info water.nequip.pt2
"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.description = "Print what a saved potential says of itself: elements, cutoff, training, errors."
    parser.epilog = EXAMPLES
    parser.add_argument(
        "file", type=Path, help="a .nequip file, one that nequip-convert reads, or a compiled one"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the card as YAML."""
    import yaml

    from nequip.export import archive
    from nequip.interop import read_card

    read = archive.read_card if archive.is_artefact(options.file) else read_card
    card = read(options.file).model_dump(mode="json")
    print(yaml.safe_dump(card, sort_keys=False, allow_unicode=True), end="")
