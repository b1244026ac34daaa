"""What commands that read frames share: options for labels, opening files, the folder for what they write."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nequip.config import CACHE_DIR

if TYPE_CHECKING:
    from nequip.data.sources import FrameSource, LabelMap

LABELS = (
    *("energy", "forces", "stress", "virial", "hessian"),
    *("dipole", "polarizability", "born_charges", "weight", "group"),
)


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """`--energy-key` and so on, `--opposite-stress`, `--cache-dir`."""
    labels = parser.add_argument_group("labels", "without them the usual names are looked for")
    for label in LABELS:
        labels.add_argument(
            f"--{label.replace('_', '-')}-key", metavar="KEY", help=f"key of the {label} in the file"
        )
    labels.add_argument(
        "--opposite-stress", action="store_true", help="the file's stress is negative under tension"
    )
    parser.add_argument("--cache-dir", default=CACHE_DIR, metavar="DIR", help=f"of named sets ({CACHE_DIR})")


def label_map(options: argparse.Namespace) -> LabelMap:
    """The keys that were given."""
    from nequip.data.sources import LabelMap

    keys = {label: getattr(options, f"{label}_key") for label in LABELS}
    return LabelMap(**keys, stress_sign=-1 if options.opposite_stress else 1)


def open_frames(file: str, options: argparse.Namespace) -> FrameSource:
    """The frames of a path, a pattern, a store or set:NAME.

    Raises:
        DataError: as `open_source`.
    """
    from nequip.data.sources import locate, open_source

    return open_source(locate(file, options.cache_dir), label_map(options))


def make_folder(path: Path) -> Path:
    """Make the folder that results go to, before any work is done for them.

    Raises:
        ConfigError: if that is not possible.
    """
    from nequip.errors import ConfigError

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder {path} cannot be made: {error.strerror}; give another as --output."
        ) from error
    return path
