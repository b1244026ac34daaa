"""What importers of published weights share: dispatch, configuration keys and weights that models share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from nequip.nn.mlp import ScalarMLP
from nequip.nn.per_type import ScaleShift

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
        dtype: float32 or float64 of the result; by default the configuration's `model_dtype` or `dtype`.
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
    conversion = importer(
        config, state, dtype_name(dtype or config.get("model_dtype") or config.get("dtype") or "float32")
    )
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


def take(state: Mapping[str, torch.Tensor], key: str, shape: Sequence[int] | None = None) -> torch.Tensor:
    """The tensor of that name, and of that shape where one is given.

    Raises:
        CheckpointError: where there is none.
    """
    if key not in state:
        raise CheckpointError(f"the published weights have no {key!r}: their configuration is another.")
    value = state[key]
    if shape is not None and tuple(value.shape) != tuple(shape):
        raise CheckpointError(
            f"the published weights {key!r} are {tuple(value.shape)}, but the configuration asks for "
            f"{tuple(shape)}: it is that of another model."
        )
    return value


def take_flat(state: Mapping[str, torch.Tensor], key: str, size: int) -> torch.Tensor:
    """The numbers in the tensor of that name, in a row; raises as `take` does."""
    return take({key: take(state, key).flatten()}, key, (size,))


def mlp_weights(
    state: Mapping[str, torch.Tensor], theirs: str, mlp: ScalarMLP, ours: str
) -> dict[str, torch.Tensor]:
    """The matrices of an MLP; theirs are numbered with the activations between, if there are any."""
    linear = mlp.activation is None and len(mlp.weights) > 1
    key = f"{theirs}.mlp.weights.{{}}" if linear else f"{theirs}.mlp.{{}}.weight"
    step = 1 if linear else 2
    return {
        f"{ours}.weights.{i}": take(state, key.format(step * i), weight.shape)
        for i, weight in enumerate(mlp.weights)
    }


def scale_shift_weights(state: Mapping[str, torch.Tensor], own: ScaleShift) -> dict[str, torch.Tensor]:
    """Scales and shifts of every type; where the published model has none, those it was built with."""
    weights: dict[str, torch.Tensor] = {}
    for name, built in (("scales", own.scales), ("shifts", own.shifts)):
        value = state.get(f"per_type_energy_scale_shift.{name}")
        found = built if value is None or value.numel() == 0 else value.flatten().double().expand(built.shape)
        weights[f"scale_shift.{name}"] = found.detach().clone()
    return weights
