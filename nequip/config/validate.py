"""From a tree of plain values to a `RunConfig`, with every mistake of the whole tree at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nequip.config.explain import KeyPath, Schema, dotted, explain
from nequip.config.schema import PretrainedModel, RunConfig
from nequip.config.sources import Sources
from nequip.errors import ConfigError
from nequip.model.registry import ModelConfig, architectures, get_architecture

DEFAULT_ARCHITECTURE = "nequip"
OPEN = "???"  # what a configuration leaves to be given


def validate(tree: Mapping[str, Any], sources: Sources | None = None) -> RunConfig:
    """The run that a tree of plain values describes; `model` follows the schema of its architecture.

    The initial weights take the seed of the run unless `model.seed` gives their own. With `model.file`
    a potential brings its own architecture, and `model` follows PretrainedModel.

    Raises:
        ConfigError: one line for each mistake: the key, what is wrong, the nearest valid name, the file.
    """
    mistakes: dict[KeyPath, str] = {}
    model = tree.get("model") or {}
    if not isinstance(model, Mapping):
        mistakes["model",] = f"{model!r} is given where a section is expected, such as model.size"
        model = {}
    schema, model = _model_section(tree, model, mistakes)
    tree = {**tree, "model": model}
    config, errors = _validated(schema, model if ("model", "name") not in mistakes else {})
    errors = [ErrorDetails({**error, "loc": ("model", *error["loc"])}) for error in errors]
    run, others = _validated(RunConfig, {**tree, "model": config or ModelConfig()})
    mistakes |= explain([*others, *errors], tree, Schema(RunConfig, schema))
    mistakes |= dict(_left_open(tree)) | dict(_code_named(tree))
    if mistakes or run is None:
        raise ConfigError("\n".join(_line(path, text, sources) for path, text in mistakes.items()))
    return run


def _model_section(
    tree: Mapping[str, Any], model: Mapping[str, Any], mistakes: dict[KeyPath, str]
) -> tuple[type[BaseModel], Mapping[str, Any]]:
    """The schema of the section `model`, and the section with what the run adds to it."""
    if "file" in model:
        shape = {key for name in architectures() for key in get_architecture(name).config.model_fields}
        foreign = [key for key in model if key in shape - PretrainedModel.model_fields.keys()]
        for key in foreign:
            mistakes["model", key] = "belongs to the shape of a model, which model.file brings: leave it out"
        return PretrainedModel, {key: value for key, value in model.items() if key not in foreign}
    seed = tree.get("seed", 0)
    model = {"name": DEFAULT_ARCHITECTURE, "seed": seed if isinstance(seed, int) else 0, **model}
    try:
        return get_architecture(str(model["name"])).config, model
    except ConfigError as error:
        mistakes["model", "name"] = str(error)
        return ModelConfig, model


def _validated(schema: type[BaseModel], tree: Mapping[str, Any]) -> tuple[Any, list[ErrorDetails]]:
    try:
        return schema.model_validate(tree), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _left_open(tree: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for path, value in _leaves(tree):
        if value == OPEN:
            yield path, "has to be given"


def _code_named(tree: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    for path, _ in _leaves(tree):
        if path[-1] == "_target_" and path[0] != "extensions":
            yield path, "code may be named only below extensions"


def _leaves(tree: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        for index, value in enumerate(tree):
            yield from _leaves(value, (*path, index))
    else:
        yield path, tree


def _line(path: KeyPath, mistake: str, sources: Sources | None) -> str:
    where = f"{dotted(path)}: " if path else ""
    return f"{where}{mistake}{sources.of(path) if sources else ''}"
