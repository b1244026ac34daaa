"""What importers of published weights share: dispatch, prefixes, common configuration keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from nequip.errors import CheckpointError, did_you_mean
from nequip.kernels.backend import Backend
from nequip.model.card import DtypeName, dtype_name
from nequip.model.checkpoint import load_weights
from nequip.model.potential import Potential
from nequip.model.registry import ModelConfig, build_potential

GROUP = "nequip.importers"
_PREFIXES = ("state/", "training_module.", "sole_model.", "model.func.", "model.", "func.")


class Conversion(NamedTuple):
    """A published potential in our terms."""

    config: ModelConfig
    weights: dict[str, torch.Tensor]


Importer = Callable[[Mapping[str, Any], Mapping[str, NDArray[Any]], DtypeName], Conversion]

# What a published configuration may hold beside the shape of the model.
_NOT_THE_MODEL = {"architecture", "_target_", "seed", "model_dtype", "compile_mode"}


def from_published(
    config: Mapping[str, Any],
    state: Mapping[str, NDArray[Any]],
    dtype: str | torch.dtype | None = None,
    backend: Backend = "auto",
) -> Potential:
    """A potential with the weights of a published package: the same weights give the same numbers.

    Args:
        config: the published model's arguments, with `architecture` (nequip, allegro, mace, ...).
        state: its state dict as arrays; prefixes of wrappers (`model.func.` and such) may be there.
        dtype: float32 or float64 of the result; by default the configuration's `model_dtype`.
        backend: of the kernels.

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
    conversion = importer(config, state, dtype_name(dtype or config.get("model_dtype", "float32")))
    potential = build_potential(conversion.config.model_copy(update={"backend": backend}))
    load_weights(potential, conversion.weights, f"published {architecture}")
    return potential.eval()


def from_config(config: Mapping[str, Any], keys: Mapping[str, str], dtype: DtypeName) -> dict[str, Any]:
    """Our configuration keys from theirs: those that all their models share, and `keys` by name.

    Raises:
        CheckpointError: for options and pair potentials that we do not have.
    """
    shared = {"type_names", "r_max", "per_type_energy_scales", "per_type_energy_shifts", "pair_potential"}
    unknown = [key for key in config if key not in shared | {*keys, "do_derivatives"} | _NOT_THE_MODEL]
    if unknown:
        raise CheckpointError(
            f"the published options {', '.join(unknown)} are not ones that we can take over."
        )
    type_names = tuple(config["type_names"])
    ours: dict[str, Any] = {"dtype": dtype, "type_names": type_names, "r_max": config["r_max"]}
    ours |= {name: config[theirs] for theirs, name in keys.items() if config.get(theirs) is not None}
    ours.setdefault("avg_num_neighbors", 1.0)
    for key in ("per_type_energy_scales", "per_type_energy_shifts"):
        value = config.get(key)
        ours[key] = dict(zip(type_names, value, strict=True)) if isinstance(value, (list, tuple)) else value
    if config.get("do_derivatives") is False:
        ours["energy_only"] = True
    if config.get("pair_potential") is not None:
        ours["pair_potential"] = _pair_potential(config["pair_potential"], type_names)
    return ours


def _pair_potential(given: Mapping[str, Any], type_names: tuple[str, ...]) -> str:
    """Our name of a published pair potential."""
    target = str(given.get("_target_"))
    if target.rpartition(".")[2] != "ZBL":
        raise CheckpointError(f"the published pair potential {target!r} is not one of ours (ZBL).")
    if given.get("units", "metal") != "metal" or tuple(given["chemical_species"]) != type_names:
        raise CheckpointError(
            "the published ZBL needs units=metal and the elements of type_names, in their order."
        )
    return "zbl"


def strip_prefix(state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The state dict without the names of the wrappers around the model."""
    stripped: dict[str, NDArray[Any]] = {}
    for key, value in state.items():
        name = key
        while (shorter := next((name[len(p) :] for p in _PREFIXES if name.startswith(p)), None)) is not None:
            name = shorter
        stripped[name] = value
    return stripped
