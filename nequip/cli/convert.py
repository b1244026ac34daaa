"""`nequip convert`: a potential of another package, once and for all."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  nequip-convert MACE.model mace.nequip
  nequip-convert two_heads.model cc.nequip --head cc --functional CCSD(T)
  nequip-convert checkpoint_sevennet_0.pth sevennet.nequip --dtype float64

IN is a .model of mace-torch, a .ckpt of nequip (0.7 or later) or allegro, a .pth of SevenNet, a .nqx of
Nequix, or a .nequip file; it is recognised by its content. The other package is not needed, and nothing in
the file is run. OUT is a .nequip file, with a card that `nequip info` prints.
"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.description = "Convert a potential of another package: the same weights give the same numbers."
    parser.epilog = EXAMPLES
    parser.add_argument("source", type=Path, metavar="IN", help="the file to convert")
    parser.add_argument("target", type=Path, metavar="OUT", help="the file to write")
    parser.add_argument("--dtype", choices=["float32", "float64"], help="instead of the file's own")
    parser.add_argument("--head", help="which readout to keep first, of a model that has several")
    parser.add_argument("--licence", metavar="TEXT", help="of the weights, for the card")
    parser.add_argument("--functional", metavar="TEXT", help="that they were trained on, for the card")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Convert, write, and say what was written."""
    from nequip.errors import ConfigError
    from nequip.interop import load

    if options.target.exists() and options.target.resolve() == options.source.resolve():
        raise ConfigError(f"{options.target} would be written over itself: give another name as OUT.")
    potential = load(options.source, dtype=options.dtype, backend="reference", head=options.head)
    card = potential.card
    told = {key: getattr(options, key) for key in ("licence", "functional") if getattr(options, key)}
    if told and card.source is None:
        raise ConfigError(
            f"{options.source} was trained here, not converted: its card has no {' and no '.join(told)}."
        )
    if card.source is not None:
        potential.card = card.model_copy(update={"source": card.source.model_copy(update=told)})
    potential.save(options.target)
    elements = ", ".join(card.type_names)
    print(
        f"{options.target}: {card.architecture} in {card.dtype}, cutoff {card.r_max:g} Å, "
        f"{len(card.type_names)} elements ({elements})."
    )
    if potential.card.source is not None:
        print(f"Converted from {potential.card.source.file}, a {potential.card.source.format}.")
