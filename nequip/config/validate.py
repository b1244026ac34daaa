"""From a tree of plain values to a `RunConfig`, with every mistake of the whole tree at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nequip.config.explain import KeyPath, Schema, dotted, explain
from nequip.config.schema import RunConfig
from nequip.config.sources import Sources
from nequip.errors import ConfigError
from nequip.model.registry import ModelConfig, get_architecture

DEFAULT_ARCHITECTURE = "nequip"
OPEN = "???"  # what a configuration leaves to be given


def validate(tree: Mapping[str, Any], sources: Sources | None = None) -> RunConfig:
    """The run that a tree of plain values describes; `model` follows the schema of its architecture.

    The initial weights take the seed of the run unless `model.seed` gives their own.

    Raises:
        ConfigError: one line for each mistake: the key, what is wrong, the nearest valid name, the file.
    """
    mistakes: dict[KeyPath, str] = {}
    model = tree.get("model") or {}
    if not isinstance(model, Mapping):
        mistakes["model",] = f"{model!r} is given where a section is expected, such as model.size"
        model = {}
    seed = tree.get("seed", 0)
    model = {"name": DEFAULT_ARCHITECTURE, "seed": seed if isinstance(seed, int) else 0, **model}
    tree = {**tree, "model": model}
    try:
        architecture = get_architecture(str(model["name"])).config
    except ConfigError as error:
        mistakes["model", "name"] = str(error)
        architecture, model = ModelConfig, {}
    config, errors = _validated(architecture, model)
    errors = [ErrorDetails({**error, "loc": ("model", *error["loc"])}) for error in errors]
    run, others = _validated(RunConfig, {**tree, "model": config or ModelConfig()})
    mistakes |= explain([*others, *errors], tree, Schema(RunConfig, architecture))
    mistakes |= dict(_left_open(tree)) | dict(_code_named(tree))
    if mistakes or run is None:
        raise ConfigError("\n".join(_line(path, text, sources) for path, text in mistakes.items()))
    return run


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
