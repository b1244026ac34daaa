"""A pickled torch module as the tree that it was: attributes, submodules and tensors by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from nequip.errors import CheckpointError
from nequip.interop.archives.pickled import Record

# More than any model has; a file in which modules are shared over and over would never end.
_MOST_MODULES = 100_000


def class_name(record: Record) -> str:
    """Without the module that defines the class."""
    return record.maker.rpartition(".")[2]


def attributes(record: Record) -> dict[str, Any]:
    """What `vars` would give; empty where the file says nothing that makes sense of it.

    A traced module (torch.fx) is made by a function from its attributes.
    """
    state = record.state if record.state is not None else next(iter(record.args), None)
    return state if isinstance(state, dict) else {}


def submodules(record: Record) -> dict[str, Record]:
    """By name, in their order."""
    found = attributes(record).get("_modules") or {}
    return {str(name): value for name, value in found.items() if isinstance(value, Record)}


def find(record: Record, path: str) -> Record | None:
    """The submodule of a dotted path, or None."""
    for name in path.split("."):
        inner = submodules(record).get(name)
        if inner is None:
            return None
        record = inner
    return record


def walk(record: Record) -> Iterator[tuple[str, Record]]:
    """Every module with its dotted path, each before its own.

    Raises:
        CheckpointError: for a tree without end.
    """
    todo = [("", record)]
    for _ in range(_MOST_MODULES):
        if not todo:
            return
        prefix, module = todo.pop()
        yield prefix, module
        inner = [(f"{prefix}{name}.", child) for name, child in submodules(module).items()]
        todo += reversed(inner)
    raise CheckpointError("its modules hold each other without end")


def state_dict(record: Record) -> dict[str, torch.Tensor]:
    """Parameters and buffers as the module's `state_dict` has them, those that are not saved with it too."""
    tensors: dict[str, torch.Tensor] = {}
    for prefix, module in walk(record):
        own = attributes(module)
        for kind in ("_parameters", "_buffers"):
            named = own.get(kind) or {}
            tensors |= {
                f"{prefix}{k}": value for k, value in named.items() if isinstance(value, torch.Tensor)
            }
    return tensors
