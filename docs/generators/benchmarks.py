"""Tables of the measurements that lie as JSON in docs/benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from generators.markdown import code, table

FOLDER = Path(__file__).parents[1] / "benchmarks"


def benchmark_tables() -> str:
    """A section for each file."""
    files = sorted(FOLDER.glob("*.json"))
    if not files:
        return "No measurement is kept in this checkout yet: run the scripts above."
    sections = []
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        sections += [f"### `{file.name}`", *_tables(content if isinstance(content, dict) else {"": content})]
    return "\n\n".join(sections)


def _tables(content: Mapping[str, Any]) -> Iterator[str]:
    """What is a table already as one, the rest as another."""
    records = {key: found for key, value in content.items() if (found := _records(value))}
    for rows in records.values():
        columns = list(next(iter(rows.values())))
        yield table(["", *columns], [[name, *(_text(row[c]) for c in columns)] for name, row in rows.items()])
    leaves = [leaf for key, value in content.items() if key not in records for leaf in _leaves(value, (key,))]
    if leaves:
        yield table(("", "value"), [(code(".".join(path)), _text(value)) for path, value in leaves])


def _records(value: Any) -> dict[str, Mapping[str, Any]]:
    """Rows by name, where `value` is a list or a mapping of mappings with the same keys; else none."""
    rows = {str(n): row for n, row in enumerate(value, 1)} if isinstance(value, list) else value
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        return {}
    return rows if len({tuple(row) for row in rows.values()}) == 1 else {}


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _leaves(below, (*path, str(key)))
    else:
        yield path, value


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)
