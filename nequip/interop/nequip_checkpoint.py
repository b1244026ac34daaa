"""A checkpoint (`.ckpt`) of the published nequip or allegro: its configuration and weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from nequip.errors import CheckpointError
from nequip.interop.archives.pickled import Record
from nequip.model.nequip_config import PRESET_COMMON, PRESETS

_BUILDERS = {
    "nequip.model.NequIPGNNModel": "nequip",
    "nequip.model.PresetNequIPGNNModel": "nequip",
    "allegro.model.AllegroModel": "allegro",
}
_MODIFY = "nequip.model.modify"
_ELSEWHERE = {
    "nequip.model.ModelFromCheckpoint": "checkpoint_path",
    "nequip.model.ModelFromPackage": "package_path",
}
_MODEL = "model.sole_model."
_SCALE_SHIFT = "model.func.per_type_energy_scale_shift"
_INTERPOLATION = re.compile(r"\$\{([^{}:]+)\}")
# More values than any configuration has; lists that hold each other would never end.
_MOST_VALUES = 100_000

Config = dict[str, Any]


def is_lightning(tree: Any) -> bool:
    """Whether a saved object is a checkpoint of Lightning."""
    return isinstance(tree, dict) and "state_dict" in tree and "pytorch-lightning_version" in tree


def read_nequip_checkpoint(tree: Mapping[str, Any]) -> tuple[Config, dict[str, NDArray[Any]]]:
    """The configuration, with `architecture`, and the state dict: moving averages where they were kept.

    Raises:
        CheckpointError: for a checkpoint of another program, and for a model that was built in a way that
            we cannot follow.
    """
    parameters = tree.get("hyper_parameters")
    if not isinstance(parameters, dict) or "model" not in parameters:
        raise CheckpointError("it is a checkpoint of Lightning, but not of nequip 0.7 or later")
    if "schedulefree_optimizer_state_dict" in tree:
        raise CheckpointError(
            "it was trained with a schedule-free optimizer, whose averaged weights are not in the file"
        )
    model = _Plain({**(parameters.get("info_dict") or {}), **parameters}).value(parameters["model"])
    config, modifiers = _unwrap(model)
    if config["architecture"] == "nequip":
        config = _as_of(_version(parameters, "nequip"), config)
    elif _version(parameters, "allegro") < (0, 5):
        raise CheckpointError("it was written by allegro before 0.5, which built other models")
    for modifier in modifiers:
        _apply(config, modifier)
    tensors = _weights(tree["state_dict"], config)
    if any(modifier["modifier"] == "modify_PerTypeScaleShift" for modifier in modifiers):
        config |= _scales_and_shifts(tensors, len(config["type_names"]))
    return config, {key: value.numpy() for key, value in tensors.items() if value.numel()}


class _Plain:
    """Containers of plain values from what configurations are saved as, with references resolved."""

    def __init__(self, root: Mapping[Any, Any]):
        self.root = root
        self.left = _MOST_VALUES

    def value(self, given: Any) -> Any:
        """Dictionaries, lists, text and numbers."""
        self.left -= 1
        if self.left < 0:
            raise CheckpointError("its configuration has no end")
        if isinstance(given, Record) and given.maker.startswith("omegaconf."):
            return self.value(_omegaconf(given))
        if isinstance(given, dict):
            return {str(key): self.value(value) for key, value in given.items()}
        if isinstance(given, (list, tuple)):
            return [self.value(value) for value in given]
        if isinstance(given, str) and "${" in given:
            return self.value(self._referred(given))
        if given is None or isinstance(given, (str, int, float)):
            return given
        what = given.maker if isinstance(given, Record) else type(given).__name__
        raise CheckpointError(f"its configuration holds a {what}, which is no plain value")

    def _referred(self, text: str) -> Any:
        match = _INTERPOLATION.fullmatch(text)
        found: Any = self.root
        for key in match[1].split(".") if match else [text]:
            found = _omegaconf(found) if isinstance(found, Record) else found
            if not isinstance(found, dict) or key not in found:
                raise CheckpointError(
                    f"its configuration refers to {text}, which is not in the file: write the value there "
                    "with the published nequip and save it again"
                )
            found = found[key]
        return found


def _omegaconf(record: Record) -> Any:
    """The content of a container or a leaf of OmegaConf."""
    state = record.state if isinstance(record.state, dict) else {}
    return state.get("_content", state.get("_val"))


def _unwrap(model: Any) -> tuple[Config, list[Config]]:
    """The arguments of the model itself, and the modifications around it, the first one first."""
    modifiers: list[Config] = []
    while isinstance(model, dict) and model.get("_target_") == _MODIFY:
        inner = model.get("modifiers", [])
        if not isinstance(inner, list):
            raise CheckpointError("it holds several models, of which ours is one")
        modifiers = [*inner, *modifiers]
        model = model.get("model")
    target = model.get("_target_") if isinstance(model, dict) else None
    if target in _ELSEWHERE:
        raise CheckpointError(
            f"its model was taken from {model.get(_ELSEWHERE[target])}, which alone says what it is made of: "
            "convert that file, or package this one with the published nequip"
        )
    if target not in _BUILDERS:
        raise CheckpointError(
            f"its model was built by {target}, which we do not have: there are {', '.join(_BUILDERS)}"
        )
    config = {key: value for key, value in model.items() if key != "_target_"}
    preset = str(config.pop("preset", "")).upper()
    if preset and preset not in PRESETS:
        raise CheckpointError(f"its model has the preset {preset}, which we do not have")
    given = {**PRESET_COMMON, **PRESETS[preset]} if preset else {}
    return {"architecture": _BUILDERS[target], **given, **config}, modifiers


def _version(parameters: Mapping[str, Any], package: str) -> tuple[int, ...]:
    """Of the package that built the model; a new one where the file does not say."""
    versions = (parameters.get("info_dict") or {}).get("versions") or {}
    match = re.match(r"(\d+)\.(\d+)", str(versions.get(package, "")))
    return (int(match[1]), int(match[2])) if match else (1, 0)


def _as_of(version: tuple[int, ...], config: Config) -> Config:
    """Arguments of an older nequip in those of the newest: other defaults, another order of features."""
    if version < (0, 17):
        config = {"radial_mlp_depth": 2, "radial_mlp_width": 64} | config
    if version >= (0, 16):
        return config
    width, l_max = config.get("num_features", 32), config.get("l_max", 1)
    parities = "eo" if config.get("parity", True) else "e"  # without them, all features were called even
    hidden = "+".join(f"{width}x{degree}{p}" for p in parities for degree in range(l_max + 1))
    layers = [hidden] * (config.get("num_layers", 4) - 1)
    return config | {
        "parity": True if len(parities) == 2 else "ignored",
        "hidden_irreps": [*layers, f"{width}x0e"],
    }


def _apply(config: Config, modifier: Config) -> None:
    """What a modification changes in the arguments; those that only make it faster change nothing."""
    name = modifier.get("modifier")
    if name in ("enable_ForceStressOutput", "disable_ForceStressOutput"):
        config["do_derivatives"] = name == "enable_ForceStressOutput"
    elif name == "modify_PerTypeScaleShift":
        for key in ("scales", "shifts"):
            config[f"per_type_energy_{key}_trainable"] = bool(modifier.get(f"{key}_trainable", False))
    elif not str(name).startswith("enable_"):
        raise CheckpointError(f"its model was modified by {name}, which we do not have")


def _weights(saved: Mapping[str, Any], config: Config) -> dict[str, torch.Tensor]:
    """Of the model, with moving averages in the place of the parameters that they belong to."""
    tensors = {
        key.removeprefix(_MODEL): value
        for key, value in saved.items()
        if key.startswith(_MODEL) and isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise CheckpointError("it holds no weights of a single model (model.sole_model)")
    averages = [value for key, value in saved.items() if key.startswith("ema.ema_weight_")]
    extra = saved.get("ema._extra_state")
    swapped = isinstance(extra, dict) and extra.get("is_holding_ema_weights") is False
    if not averages or swapped:
        return tensors
    names = [key for key in tensors if _is_parameter(key, tensors[key], config)]
    if [tensors[name].shape for name in names] != [average.shape for average in averages]:
        raise CheckpointError("its moving averages do not belong to the weights beside them")
    return tensors | dict(zip(names, averages, strict=True))


def _is_parameter(key: str, value: torch.Tensor, config: Config) -> bool:
    """Whether a tensor was trained, which the names in the file do not say."""
    leaf = key.rpartition(".")[2]
    if leaf in ("scales", "shifts"):
        return bool(config.get(f"per_type_energy_{leaf}_trainable", False))
    if leaf == "bessel_weights":
        embedding = config.get("radial_chemical_embed") or config
        return bool(embedding.get("bessel_trainable", False))
    return leaf in ("weight", "weights") and value.numel() > 0


def _scales_and_shifts(tensors: Mapping[str, torch.Tensor], num_types: int) -> Config:
    """The values that a modified model has, for its configuration."""
    found: Config = {}
    for key in ("scales", "shifts"):
        value = tensors[f"{_SCALE_SHIFT}.{key}"].flatten()
        found[f"per_type_energy_{key}"] = value.expand(num_types).tolist() if value.numel() else None
    return found
