"""The command line reference: the help of every command, as argparse writes it."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator

from nequip.cli.main import COMMANDS

DASHED = ("train", "evaluate", "data")  # have a dashed name of their own


def help_texts() -> str:
    """A section for each command and for each command below it."""
    parts = []
    for name, command in COMMANDS.items():
        parser = build_parser(name)
        summary = command.summary[0].upper() + command.summary[1:]
        parts += [f"## `{parser.prog}`\n\n{summary}.", _help(parser)]
        parts += [f"### `{below.prog}`\n\n{_help(below)}" for below in _below(parser)]
    return "\n\n".join(parts)


def build_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    program = f"nequip-{name}" if name in DASHED else f"nequip {name}"
    parser = argparse.ArgumentParser(program, formatter_class=argparse.RawDescriptionHelpFormatter)
    importlib.import_module(COMMANDS[name].module).register(parser)
    return parser


def _help(parser: argparse.ArgumentParser) -> str:
    return f"```text\n{parser.format_help()}```"


def _below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()
