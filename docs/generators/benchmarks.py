"""Tables of the measurements that lie as JSON in docs/benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generators.markdown import code, table

FOLDER = Path(__file__).parents[1] / "benchmarks"


def benchmark_tables() -> str:
    """One table for each file."""
    files = sorted(FOLDER.glob("*.json"))
    if not files:
        return "No measurement is kept in this checkout yet: run the scripts above."
    return "\n\n".join(f"### `{file.name}`\n\n{_tables(json.loads(file.read_text()))}" for file in files)


def _tables(content: Any) -> str:
    rows = [(code(".".join(path)), str(value)) for path, value in _leaves(content)]
    return table(("what", "value"), rows)


def _leaves(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, (*path, str(key)))
    elif isinstance(content, list) and any(isinstance(entry, dict | list) for entry in content):
        for index, value in enumerate(content):
            yield from _leaves(value, (*path, str(index)))
    elif isinstance(content, list):
        yield path, ", ".join(map(str, content))
    else:
        yield path, content
