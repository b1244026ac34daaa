"""Third-party code that a configuration names: modules to import and callbacks to add."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl

from nequip.config.schema import Extensions
from nequip.errors import ConfigError, did_you_mean


def load_extensions(extensions: Extensions) -> list[pl.Callback]:
    """Import the modules, then build the callbacks.

    Raises:
        ConfigError: for what cannot be imported or built, or is no callback.
    """
    for name in extensions.modules:
        _import(name, "extensions.modules")
    return [_build(number, dict(spec)) for number, spec in enumerate(extensions.callbacks)]


def _import(name: str, key: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{key} names {name!r}, which cannot be imported: {error}.") from error


def _build(number: int, spec: Mapping[str, Any]) -> pl.Callback:
    key = f"extensions.callbacks[{number}]"
    target = spec.get("_target_")
    if not isinstance(target, str) or "." not in target:
        raise ConfigError(
            f"{key} needs a _target_, the full name of a callback class such as my_package.MyCallback."
        )
    module_name, name = target.rsplit(".", 1)
    module = _import(module_name, f"{key}._target_")
    if not hasattr(module, name):
        raise ConfigError(f"{key}._target_: {module_name} has no {name!r}{did_you_mean(name, vars(module))}.")
    arguments = {argument: value for argument, value in spec.items() if argument != "_target_"}
    try:
        callback = getattr(module, name)(**arguments)
    except Exception as error:
        raise ConfigError(f"{key}: {target} cannot be built with {arguments}: {error}.") from error
    if not isinstance(callback, pl.Callback):
        raise ConfigError(
            f"{key}: {target} is no Lightning callback (a subclass of lightning.pytorch.Callback)."
        )
    return callback
