"""`nequip info`: the card of a saved potential."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  nequip info outputs/best.nequip
"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.description = "Print what a saved potential says of itself: elements, cutoff, training, errors."
    parser.epilog = EXAMPLES
    parser.add_argument("file", type=Path, help="a .nequip file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Print the card as YAML."""
    import yaml

    from nequip.model.checkpoint import read_card

    card = read_card(options.file).model_dump(mode="json")
    print(yaml.safe_dump(card, sort_keys=False, allow_unicode=True), end="")
