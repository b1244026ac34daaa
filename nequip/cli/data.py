"""`nequip data`: look at sets of frames, convert and split them, and take their statistics."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from nequip.cli.frames import add_label_options, label_map, open_frames

EXAMPLES = """\
examples:
  nequip-data inspect my.xyz                    elements, labels, ranges, what is wrong
  nequip-data inspect 'run*/OUTCAR' --json      several files as one, for other programs
  nequip-data convert my.xyz store              a folder of HDF5 shards, read frame by frame
  nequip-data verify store                      whether its shards are what was written
  nequip-data split my.xyz --val 0.1 --test 100 -o parts
  nequip-data statistics my.xyz --r-max 5       neighbors, energies per type, RMS of forces
  nequip-data sets                              data sets to download by name (set:NAME)

FILE is a path, a pattern in quotes, a store written by convert, or set:NAME.
"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    parser.description = "Look at sets of frames, convert and split them, and take their statistics."
    parser.epilog = EXAMPLES
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    inspect = _add(commands, "inspect", "what a file holds: structures, labels, ranges, problems", _inspect)
    inspect.add_argument("--json", action="store_true", help="print JSON instead of a table")

    convert = _add(
        commands, "convert", "write a store for sets larger than memory; goes on after a kill", _convert
    )
    convert.add_argument("out", metavar="OUT", help="a new folder, or one file NAME.h5 or NAME.lmdb")
    convert.add_argument("--format", choices=["hdf5", "lmdb"], default="hdf5", help="of a folder (hdf5)")
    convert.add_argument(
        "--shard-size", type=_positive, default=10_000, metavar="N", help="frames a shard (10000)"
    )
    _add_workers(convert, "write shards")

    verify = commands.add_parser("verify", help="compare every shard of a store with its checksum")
    verify.add_argument("file", metavar="STORE", help="a folder or file written by convert")
    _add_workers(verify, "read shards")
    verify.set_defaults(run=_verify)

    split = _add(commands, "split", "divide frames into train, val and test", _split)
    for part, default in (("train", None), ("val", 0.1), ("test", 0)):
        text = "a number of frames or a share" + (" (the rest)" if default is None else f" ({default})")
        split.add_argument(f"--{part}", type=_size, default=default, metavar="SIZE", help=text)
    split.add_argument("--by-group", action="store_true", help="whole groups go together")
    split.add_argument("--seed", type=int, default=0, help="of the order (0)")
    split.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="where files are written")

    statistics = _add(
        commands, "statistics", "what training takes from the data before it starts", _statistics
    )
    statistics.add_argument("--r-max", type=_length, default=5.0, metavar="Å", help="cutoff (5.0)")
    statistics.add_argument("--json", action="store_true", help="print JSON instead of a table")

    _add_workers(statistics, "read frames")

    sets = commands.add_parser("sets", help="data sets that can be named as set:NAME")
    sets.set_defaults(run=_sets)


def _add(commands, name: str, summary: str, run) -> argparse.ArgumentParser:
    """A command that reads FILE, with options that say where its labels lie."""
    parser = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.add_argument("file", metavar="FILE", help="path, 'pattern', store or set:NAME")
    add_label_options(parser)
    parser.set_defaults(run=run)
    return parser


def _add_workers(parser: argparse.ArgumentParser, task: str) -> None:
    text = f"processes that {task}; 0: this one (0)"
    parser.add_argument("--workers", type=_count, default=0, metavar="N", help=text)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _size(text: str) -> int | float:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of frames (100) nor a share (0.1)"
        ) from None


def _inspect(options: argparse.Namespace) -> None:
    import json

    from nequip.cli.tables import inspection_table
    from nequip.data.inspection import inspect
    from nequip.data.progress import progress

    source = open_frames(options.file, options)
    found = inspect(source, progress(range(len(source)), "inspecting", len(source)))
    print(json.dumps(found.as_dict(), indent=2) if options.json else inspection_table(found))


def _convert(options: argparse.Namespace) -> None:
    from nequip.data.convert import convert
    from nequip.data.sources import locate

    count = convert(
        locate(options.file, options.cache_dir),
        options.out,
        labels=label_map(options),
        kind=options.format,
        shard_size=options.shard_size,
        num_workers=options.workers,
    )
    print(f"{options.out} holds {count} frames: data.file={options.out}")


def _verify(options: argparse.Namespace) -> None:
    from nequip.data.verification import verify_store

    count = verify_store(options.file, options.workers)
    print(f"{options.file}: {count} frames, every checksum is right")


def _split(options: argparse.Namespace) -> None:
    from nequip.data.sources import locate, open_source, separate_isolated_atoms
    from nequip.data.sources.ase_files import is_extxyz
    from nequip.data.splits import SplitSizes, random_split, split_by_group, write_parts, write_split

    path = locate(options.file, options.cache_dir)
    source = open_source(path, label_map(options))
    frames, isolated = separate_isolated_atoms(source)
    sizes = SplitSizes(options.train, options.val, options.test)
    if options.by_group:
        groups = source.groups()
        split = split_by_group(frames, [groups[index] for index in frames], sizes, options.seed)
    else:
        split = random_split(frames, sizes, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    write_split(split, options.out / "split.json")
    print(f"{len(split.train)} training, {len(split.val)} validation, {len(split.test)} test frames:")
    print(f"  {options.out / 'split.json'}  (data.split.kind=fixed data.split.indices_file=...)")
    if path.is_file() and is_extxyz(path):
        parts = {"train": split.train, "val": split.val, "test": split.test, "isolated_atoms": isolated}
        for file in write_parts(path, parts, options.out):
            print(f"  {file}")


def _statistics(options: argparse.Namespace) -> None:
    import json

    from ase.data import chemical_symbols

    from nequip.cli.tables import statistics_table
    from nequip.data.dataset import GraphDataset
    from nequip.data.neighbors import Cutoffs, TypeMapper
    from nequip.data.sources import separate_isolated_atoms

    source = open_frames(options.file, options)
    frames, _ = separate_isolated_atoms(source)
    names = [chemical_symbols[number] for number in sorted(source.elements(frames))]
    dataset = GraphDataset(source, frames, TypeMapper(names), Cutoffs(options.r_max))
    found = dataset.prepare(options.workers, label="statistics").statistics(names, dataset.cutoffs)
    if found.singular:
        logging.getLogger(__name__).warning("%s", found.singular)
    print(json.dumps(found.as_dict(), indent=2) if options.json else statistics_table(found))


def _sets(options: argparse.Namespace) -> None:
    from nequip.data.named_sets import list_named_sets

    for entry in list_named_sets():
        size = "" if entry.size is None else f"{entry.size / 1e6:.1f} MB"
        frames = "" if entry.frames is None else str(entry.frames)
        elements = " ".join(entry.elements)
        print(f"set:{entry.name:32}{frames:>8} {size:>10}  {elements:14} {entry.level} ({entry.licence})")


def _length(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is given where a length above 0 is expected")
    return number
