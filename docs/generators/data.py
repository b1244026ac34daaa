"""Tables of the data reference: the usual names of labels, and the named sets."""

from __future__ import annotations

from generators.markdown import code, table
from nequip.data.named_sets import list_named_sets
from nequip.data.sources.labels import USUAL_NAMES


def label_table() -> str:
    """What is looked for where `data.keys` names nothing."""
    rows = [(code(f"data.keys.{label}"), ", ".join(map(code, names))) for label, names in USUAL_NAMES.items()]
    return table(("label", "names looked for, in this order"), rows)


def set_table() -> str:
    """Every named set with its facts."""
    rows = [
        (
            code(f"set:{entry.name}"),
            "not stated" if entry.frames is None else f"{entry.frames:,}",
            " ".join(entry.elements),
            entry.level,
            entry.licence,
            _size(entry.size),
        )
        for entry in list_named_sets()
    ]
    return table(("name", "frames", "elements", "level of theory", "license", "download"), rows)


def _size(size: int | None) -> str:
    if size is None:
        return "not stated"
    return f"{size / 1e6:,.1f} MB" if size else "in the package"
