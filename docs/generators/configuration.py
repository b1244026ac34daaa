"""The configuration reference: every key of the schema with its type, default and comment."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from allegro.config import PRESETS as ALLEGRO_PRESETS
from generators.fields import declared_fields
from generators.markdown import code, table
from nequip.config.explain import BOUNDS, expectation
from nequip.config.schema import PretrainedModel, RunConfig
from nequip.model.nequip_config import PRESET_COMMON, PRESETS
from nequip.model.registry import architectures, get_architecture

HEADER = ("key", "type", "default", "what it is")


def key_tables() -> str:
    """A table for each section, from the root down; `model` once for each architecture installed."""
    sections = ["## The run", _described(RunConfig)]
    for name, field in RunConfig.model_fields.items():
        if name == "model":
            for architecture in architectures():
                schema = get_architecture(architecture).config
                sections += [f"## `model` (name: {architecture})", _described(schema)]
            sections += ["## `model` (with `file`)", _described(PretrainedModel)]
        elif kind := _section(field.annotation):
            sections += _tree(name, kind)
    return "\n\n".join(sections)


def preset_table() -> str:
    """What the sizes of NequIP stand for."""
    common = ", ".join(code(f"{key}: {_plain(value)}") for key, value in PRESET_COMMON.items())
    return f"{_presets(PRESETS)}\n\nAll of them: {common}."


def allegro_preset_table() -> str:
    """What the sizes of Allegro stand for."""
    return _presets(ALLEGRO_PRESETS)


def _presets(presets: dict[str, dict[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for preset in presets.values() for key in preset))
    rows = [[size, *(_plain(preset[key]) for key in keys)] for size, preset in presets.items()]
    return table(["size", *map(code, keys)], rows)


def _tree(path: str, schema: type[BaseModel]) -> Iterator[str]:
    yield f"{'##' if '.' not in path else '###'} `{path}`"
    yield _described(schema)
    shown: list[type[BaseModel]] = []
    for field in schema.model_fields.values():
        kind = _section(field.annotation)
        if kind is not None and kind not in shown:
            shown.append(kind)  # the three terms of the loss have the same keys
            same = [key for key, other in schema.model_fields.items() if _section(other.annotation) is kind]
            yield from _tree(f"{path}.{same[0] if len(same) == 1 else '{' + ', '.join(same) + '}'}", kind)


def _described(schema: type[BaseModel]) -> str:
    declared = declared_fields(schema)
    missing = [name for name in schema.model_fields if not declared[name].comment]
    if missing:
        raise ValueError(
            f"{schema.__module__}.{schema.__name__}: write a comment beside {', '.join(missing)}, "
            "which is its description in the configuration reference"
        )
    rows = [
        (code(name), _type(field), _default(field), _in_yaml(declared[name].comment))
        for name, field in schema.model_fields.items()
    ]
    return f"{_in_yaml(inspect.getdoc(schema) or '')}\n\n{table(HEADER, rows)}"


def _type(field: FieldInfo) -> str:
    bounds = [BOUNDS[type(bound)].format(bound) for bound in field.metadata if type(bound) in BOUNDS]
    text = field.description or expectation(field.annotation, bounds)
    text = text.replace("something else", "anything")
    return re.sub("'([^']*)'", r"`\1`", text)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        changed = value.model_dump(mode="json", exclude_unset=True)
        return code(json.dumps(changed)) if changed else "its defaults"
    return code(_plain(value))


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)


def _in_yaml(text: str) -> str:
    """Comments name values as Python does."""
    for python, yaml in {"None": "null", "True": "true", "False": "false"}.items():
        text = re.sub(rf"\b{python}\b", f"`{yaml}`", text)
    return text


def _section(annotation: Any) -> type[BaseModel] | None:
    """The class of a section, also of one that may be null or stands in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_section, get_args(annotation))), None)
