"""The umbrella command and its aliases; exit codes and the printing of errors, in one place.

Codes: 0 done, 2 a mistake the user can mend (one sentence, no traceback), 130 stopped by Ctrl-C,
141 the reader of a pipe went away. Any other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from nequip.errors import NequIPError, did_you_mean
from nequip.version import VERSION

INTERRUPTED = 130
BROKEN_PIPE = 141


class Command(NamedTuple):
    """A module with `register(parser)`, which adds arguments and sets `run`; imported when asked for."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("nequip.cli.train", "train a potential from a configuration"),
    "submit": Command("nequip.cli.submit", "train as a job of SLURM that goes on until it is done"),
    "evaluate": Command("nequip.cli.evaluate", "errors and report of a potential on a data set"),
    "data": Command("nequip.cli.data", "inspect, convert and split data sets, and their statistics"),
    "md": Command("nequip.cli.md", "molecular dynamics with a saved potential"),
    "phonons": Command("nequip.cli.phonons", "bands, density of states, thermal properties of a crystal"),
    "vibrations": Command("nequip.cli.vibrations", "normal modes and thermochemistry of a molecule"),
    "convert": Command("nequip.cli.convert", "convert a potential of another package"),
    "compile": Command("nequip.cli.compile", "a saved potential as a file that runs without Python"),
    "info": Command("nequip.cli.info", "what a saved potential says of itself"),
}
EXAMPLES = """\
examples:
  nequip train -cn methanol_demo              train on the data that ships with the package
  nequip train my.yaml trainer.max_epochs=50  train on your own
  nequip evaluate best.nequip test.xyz        errors, parity plots and worst frames
  nequip COMMAND --help                       more on one command
"""


def main(argv: Sequence[str] | None = None) -> int:
    """`nequip COMMAND ...`."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in COMMANDS:
        _without_command(words)
    return run(words[0], words[1:], prog=f"nequip {words[0]}")


def _without_command(words: list[str]) -> NoReturn:
    """Help, version, or the nearest command to one that does not exist."""
    listed = "\n".join(f"  {name:11}{command.summary}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "nequip",
        description="Machine-learned interatomic potentials with E(3) symmetry.",
        epilog=f"commands:\n{listed}\n\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"e3forge {VERSION}")
    parser.add_argument("command", metavar="COMMAND", help="one of those below")
    name = parser.parse_known_args(words or ["--help"])[0].command
    near = did_you_mean(name, COMMANDS)
    parser.error(f"no command is called {name!r}{near}: there are {', '.join(COMMANDS)}.")


def _entry(name: str) -> Callable[..., int]:
    """What `nequip-NAME` runs."""

    def command(argv: Sequence[str] | None = None) -> int:
        return run(name, sys.argv[1:] if argv is None else argv, prog=f"nequip-{name}")

    return command


def run(name: str, argv: Sequence[str], prog: str) -> int:
    """Run one command and turn what the user can mend into a sentence and an exit code."""
    parser = argparse.ArgumentParser(prog, formatter_class=argparse.RawDescriptionHelpFormatter)
    importlib.import_module(COMMANDS[name].module).register(parser)
    # Progress of the library, such as downloads, is for the reader of the terminal.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nequip").setLevel(logging.INFO)
    try:
        options = _parse(parser, argv)
        code = options.run(options)
        sys.stdout.flush()
        return code or 0
    except NequIPError as error:
        # Of a configuration every mistake is told at once, each on a line of its own.
        lines = str(error).splitlines()
        print("\n  ".join([f"{prog}:", *lines] if len(lines) > 1 else [f"{prog}: {error}"]), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{prog}: stopped by Ctrl-C.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more on its way out: give it a place that takes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    try:
        return parser.parse_intermixed_args(argv)
    except TypeError:  # a command with commands of its own takes words and options in order
        return parser.parse_args(argv)


train, evaluate, data, info = (_entry(name) for name in ("train", "evaluate", "data", "info"))
convert, compile = _entry("convert"), _entry("compile")
phonons, vibrations, submit = _entry("phonons"), _entry("vibrations"), _entry("submit")


if __name__ == "__main__":
    sys.exit(main())
