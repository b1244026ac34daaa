"""What importers of published weights share: dispatch, prefixes, common configuration keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from nequip.errors import CheckpointError, did_you_mean
from nequip.model.checkpoint import load_weights
from nequip.model.potential import Potential
from nequip.model.registry import ModelConfig, build_potential

GROUP = "nequip.importers"
_PREFIXES = ("training_module.", "sole_model.", "model.func.", "model.", "func.")


class Conversion(NamedTuple):
    """A published potential in our terms."""

    config: ModelConfig
    weights: dict[str, torch.Tensor]


Importer = Callable[[Mapping[str, Any], Mapping[str, NDArray[Any]], str], Conversion]


def from_published(
    config: Mapping[str, Any], state: Mapping[str, NDArray[Any]], *, dtype: str = "float32"
) -> Potential:
    """A potential with the weights of a published package: the same weights give the same numbers.

    Args:
        config: the published model's arguments, with `architecture` (nequip, allegro, mace, ...).
        state: its state dict as arrays; prefixes of wrappers (`model.func.` and such) may be there.
        dtype: "float32" or "float64" of the result.

    Raises:
        CheckpointError: for an architecture, an option or weights that we cannot take over.
    """
    architecture = str(config.get("architecture", "nequip"))
    points = {point.name: point for point in entry_points(group=GROUP)}
    if architecture not in points:
        raise CheckpointError(
            f"no importer for architecture {architecture!r}{did_you_mean(architecture, points)}: "
            f"there are {', '.join(sorted(points))}."
        )
    importer: Importer = points[architecture].load()
    conversion = importer(config, state, dtype)
    potential = build_potential(conversion.config)
    load_weights(potential, conversion.weights, f"published {architecture}")
    return potential.eval()


def from_config(config: Mapping[str, Any], keys: Mapping[str, str], dtype: str) -> dict[str, Any]:
    """Our configuration keys from theirs: those that all their models share, and `keys` by name.

    Raises:
        CheckpointError: for a pair potential that we do not have.
    """
    ours: dict[str, Any] = {
        "dtype": dtype,
        "type_names": tuple(config["type_names"]),
        "r_max": config["r_max"],
    }
    for theirs, name in keys.items():
        if config.get(theirs) is not None:
            ours[name] = config[theirs]
    ours.setdefault("avg_num_neighbors", 1.0)
    for key in ("per_type_energy_scales", "per_type_energy_shifts"):
        value = config.get(key)
        ours[key] = (
            dict(zip(ours["type_names"], value, strict=True)) if isinstance(value, (list, tuple)) else value
        )
    pair = config.get("pair_potential")
    if pair is not None:
        target = pair.get("_target_", "") if isinstance(pair, Mapping) else str(pair)
        if not target.lower().endswith("zbl"):
            raise CheckpointError(f"the pair potential {target!r} is not one of ours (zbl).")
        ours["pair_potential"] = "zbl"
    return ours


def strip_prefix(state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The state dict without the names of the wrappers around the model."""
    stripped: dict[str, NDArray[Any]] = {}
    for key, value in state.items():
        name = key
        while (shorter := next((name[len(p) :] for p in _PREFIXES if name.startswith(p)), None)) is not None:
            name = shorter
        stripped[name] = value
    return stripped
