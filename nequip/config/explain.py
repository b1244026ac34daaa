"""Mistakes of a configuration in plain words: what was given, what is expected, the nearest valid name."""

from __future__ import annotations

import difflib
import itertools
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from nequip.errors import did_you_mean

KeyPath: TypeAlias = tuple[str | int, ...]

# What others call our keys, where likeness does not lead to them.
FOREIGN_NAMES = {
    "cutoff": "model.r_max",
    "cutoff_radius": "model.r_max",
    "learning_rate": "train.optimizer.lr",
    "chemical_symbols": "model.type_names",
    "species": "model.type_names",
    "dataset": "data.file",
    "device": "trainer.accelerator",
    "foundation_model": "model.file",
    "from": "model.file",
    "E0s": "model.per_type_energy_shifts",
    "start_swa": "train.loss.schedule",
    "swa_lr": "train.loss.schedule",
    "multiheads_finetuning": "data.replay",
    "pt_train_file": "data.replay.file",
}
PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null"}
BOUNDS = {
    annotated_types.Gt: "above {0.gt:g}",
    annotated_types.Ge: "at least {0.ge:g}",
    annotated_types.Lt: "below {0.lt:g}",
    annotated_types.Le: "at most {0.le:g}",
}
LONGEST = 60  # characters of a value that are shown


def dotted(path: KeyPath) -> str:
    """`("train", "schedule", 0)` as `train.schedule[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


class Schema:
    """The tree of valid keys: a configuration class, with the architecture's own below `model`."""

    def __init__(self, root: type[BaseModel], model: type[BaseModel]):
        self.root = root
        self.model = model

    def section(self, path: KeyPath) -> type[BaseModel] | None:
        """The class that describes the keys at a path, None where there are none."""
        current: type[BaseModel] | None = self.root
        for depth, part in enumerate(path, 1):
            if path[:depth] == ("model",):
                current = self.model
            elif isinstance(part, str) and current is not None:
                field = current.model_fields.get(part)
                current = None if field is None else _class_in(field.annotation)
        return current

    def names(self, path: KeyPath) -> list[str]:
        """The valid keys of a section."""
        section = self.section(path)
        return [] if section is None else list(section.model_fields)

    def all_keys(self, path: KeyPath = ()) -> Iterator[KeyPath]:
        """Every valid key at and below a section, without those of the entries of lists."""
        section = self.section(path)
        for name, field in section.model_fields.items() if section else ():
            yield (*path, name)
            if get_origin(field.annotation) is not tuple:
                yield from self.all_keys((*path, name))

    def required(self, path: KeyPath) -> KeyPath:
        """What has to be given where a section is missing: the first key in it without a default."""
        section = self.section(path)
        fields = section.model_fields if section else {}
        needed = [name for name, field in fields.items() if field.is_required()]
        return self.required((*path, needed[0])) if needed else path

    def field_path(self, location: KeyPath) -> KeyPath:
        """The key that an error is about; pydantic appends entries and alternatives of unions to it."""
        for length in range(len(location), 0, -1):
            if location[length - 1] in self.names(location[: length - 1]):
                return location[:length]
        return location


def explain(errors: Iterable[ErrorDetails], tree: Mapping[str, Any], schema: Schema) -> dict[KeyPath, str]:
    """What is wrong at each key, from the errors of pydantic for `tree`."""
    mistakes: dict[KeyPath, str] = {}
    for error in errors:
        location = error["loc"]
        if error["type"] in ("extra_forbidden", "invalid_key"):
            mistakes[location] = unknown_key(location, schema)
        elif error["type"] == "missing":
            mistakes[schema.required(location)] = "has to be given"
        elif error["type"] == "value_error":
            mistakes[location] = str(error["ctx"]["error"])
        else:
            # A union reports each alternative that failed: one sentence for all of them.
            path = schema.field_path(location)
            mistakes[path] = wrong_value(path, value_at(tree, path), schema)
    return mistakes


def unknown_key(path: KeyPath, schema: Schema) -> str:
    """No such key, and the one that was probably meant: at this level, else anywhere in the tree."""
    name, level = str(path[-1]), path[:-1]
    known = list(schema.all_keys())
    joined = [key for key in known if "_".join(map(str, key[-2:])) == name]  # batch_size: batch.size
    near = difflib.get_close_matches(name, schema.names(level), n=1)
    same = [key for key in known if key[-1] == name]
    if name in FOREIGN_NAMES and not same:
        meant = [FOREIGN_NAMES[name]]
    elif joined or (same and not near):
        candidates = joined or same
        shared = max(_common(key, path) for key in candidates)
        meant = [dotted(key) for key in candidates if _common(key, path) == shared][:3]
    elif near:
        meant = [dotted((*level, near[0]))]
    else:
        by_name = {str(key[-1]): dotted(key) for key in known}
        meant = [by_name[key] for key in difflib.get_close_matches(name, by_name, n=1, cutoff=0.7)]
    return "no such key" + (f" (did you mean {' or '.join(meant)}?)" if meant else "")


def wrong_value(path: KeyPath, given: Any, schema: Schema) -> str:
    """What was given and what is expected."""
    section = schema.section(path[:-1])
    assert section is not None
    field = section.model_fields[str(path[-1])]
    bounds = [BOUNDS[type(bound)].format(bound) for bound in field.metadata if type(bound) in BOUNDS]
    choices = [choice for choice in _choices(field.annotation) if isinstance(choice, str)]
    hint = did_you_mean(given, choices) if isinstance(given, str) else ""
    expected = field.description or expectation(field.annotation, bounds)
    return f"{_shown(given)} is given where {expected} is expected{hint}"


def expectation(annotation: Any, bounds: Sequence[str] = ()) -> str:
    """A type in plain words, such as "a number above 0, or null"."""
    *first, last = dict.fromkeys(_alternatives(annotation, bounds))
    return f"{', '.join(first)} or {last}" if first else last


def _alternatives(annotation: Any, bounds: Sequence[str]) -> Iterator[str]:
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in (int, float):
        yield " ".join([PLAIN[annotation], " and ".join(bounds)]).rstrip()
    elif annotation in PLAIN:
        yield PLAIN[annotation]
    elif origin is Literal:
        yield from map(repr, parts)
    elif origin in (Union, types.UnionType):
        # Every whole number is a number.
        kept = [part for part in parts if not (part is int and float in parts)]
        yield from itertools.chain(*(_alternatives(part, bounds) for part in kept))
    elif origin is dict:
        yield f"a mapping from {expectation(parts[0])} to {expectation(parts[1], bounds)}"
    elif origin in (tuple, list):
        yield f"a list (each entry {expectation(parts[0], bounds)})"
    elif section := _class_in(annotation):
        yield f"a section (with the keys {', '.join(section.model_fields)})"
    else:
        yield "something else"


def value_at(tree: Any, path: KeyPath) -> Any:
    """The value at a path that exists."""
    for part in path:
        tree = tree[part]
    return tree


def _common(one: KeyPath, other: KeyPath) -> int:
    pairs = zip(one, other, strict=False)
    return next((index for index, (left, right) in enumerate(pairs) if left != right), len(other))


def _class_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_class_in, get_args(annotation))), None)


def _choices(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _shown(value: Any) -> str:
    if isinstance(value, str):
        text = repr(value)
    else:
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
