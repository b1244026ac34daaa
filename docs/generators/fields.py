"""The fields of a class as its source declares them, with the comment beside each."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple


class Field(NamedTuple):
    """`name: annotation = default  # comment`; the comment may also stand on the line above."""

    name: str
    annotation: str
    default: str
    comment: str


def declared_fields(kind: type) -> dict[str, Field]:
    """By name, those of the base classes first."""
    found: dict[str, Field] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] in ("nequip", "allegro", "mace_ext"):
            found |= {field.name: field for field in _parse(textwrap.dedent(inspect.getsource(base)))}
    return found


def _parse(source: str) -> Iterator[Field]:
    lines = source.splitlines()
    for item in ast.parse(source).body[0].body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            behind = [
                text for _, _, text in (line.partition("  # ") for line in _lines_of(item, lines)) if text
            ]
            above = re.match(r"\s+# (.*)", lines[item.lineno - 2])
            comment = next(
                (text for text in behind if not text.startswith("pyright:")), above[1] if above else ""
            )
            default = "" if item.value is None else ast.unparse(item.value)
            yield Field(item.target.id, ast.unparse(item.annotation), default, comment)


def _lines_of(item: ast.AnnAssign, lines: list[str]) -> list[str]:
    return lines[item.lineno - 1 : item.end_lineno]
