"""Docstrings for Sphinx: the fields of a class with their comments, and bars that are bars."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx

from generators.fields import declared_fields


def complete_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape bars outside backticks (|V| is no substitution), and list the fields of a record; in place."""
    lines[:] = ["`".join(_escaped(line.split("`"))) for line in lines]
    if what == "class" and _is_record(obj):
        for field in declared_fields(obj).values():
            default = f" = {field.default}" if field.default else ""
            comment = f", {field.comment}" if field.comment else ""
            lines.append(f"- `{field.name}: {field.annotation}{default}`{comment}")
        lines.append("")


def shorten_signature(app: Sphinx, what: str, name: str, obj: Any, options: Any, *signature: str) -> Any:
    """None for a record: its fields are listed."""
    return ("", None) if what == "class" and _is_record(obj) else None


def skip_fields(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what the list of fields says better."""
    return True if "Alias for field number" in (getattr(obj, "__doc__", None) or "") else None


def _is_record(obj: Any) -> bool:
    return is_dataclass(obj) or hasattr(obj, "_fields") or issubclass(obj, BaseModel)


def _escaped(parts: list[str]) -> list[str]:
    return [part if index % 2 else part.replace("|", "\\|") for index, part in enumerate(parts)]
