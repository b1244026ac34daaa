"""Weights of the published package (mace-torch): its configuration and state dict -> ours."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import NDArray
from pydantic import ValidationError

from mace_ext.config import MACEConfig
from mace_ext.model import build
from mace_ext.published_weights import State, our_weights
from mace_ext.radial import AGNESI, SOFT_ALPHA
from mace_ext.repulsion import AMPLITUDES, POWER, PREFACTOR
from nequip.errors import CheckpointError, did_you_mean
from nequip.interop.published import Conversion, strip_prefix, take
from nequip.model.card import DtypeName
from nequip.o3 import Irreps

_KEYS = {
    "num_interactions": "num_layers",
    "hidden_irreps": "hidden_irreps",
    "max_ell": "l_max",
    "correlation": "correlation",
    "num_bessel": "num_basis",
    "num_polynomial_cutoff": "polynomial_cutoff_p",
    "radial_type": "radial_basis",
    "radial_mlp": "radial_mlp",
    "avg_num_neighbors": "avg_num_neighbors",
    "r_max": "r_max",
}
# Other names that the same options have in their code.
_SYNONYMS = {"radial_MLP": "radial_mlp", "interaction_cls_first": "first", "interaction_cls": "rest"}
# Read one by one below.
_READ = {
    "class",
    "first",
    "rest",
    "distance_transform",
    "pair_repulsion",
    "MLP_irreps",
    "gate",
    "heads",
    "head",
}
# What the weights say too, or does not change them.
_IGNORED = {
    *("architecture", "dtype", "default_dtype", "model_dtype", "seed", "num_elements", "atomic_numbers"),
    *("scale", "shift", "atomic_inter_scale", "atomic_inter_shift", "atomic_energies"),
    *("use_reduced_cg", "lammps_mliap", "cueq_config", "oeq_config"),
}
# Options of which we have one value alone.
_FIXED = {
    "apply_cutoff": True,
    "use_so3": False,
    "use_agnostic_product": False,
    "use_last_readout_only": False,
    "use_embedding_readout": False,
    "use_edge_irreps_first": False,
    "keep_last_layer_irreps": False,
    "edge_irreps": None,
    "embedding_specs": None,
    "readout_cls": "NonLinearReadoutBlock",
}
_BLOCKS = {
    "RealAgnosticInteractionBlock": "plain",
    "RealAgnosticResidualInteractionBlock": "residual",
    "RealAgnosticDensityInteractionBlock": "density",
    "RealAgnosticDensityResidualInteractionBlock": "density_residual",
}
_TRANSFORMS = {None: None, "None": None, "Agnesi": "agnesi", "Soft": "soft"}
_GATES = {None: None, "None": None, "silu": "silu", "tanh": "tanh", "abs": "abs"}
_RADIAL_TYPES = {name: name for name in ("bessel", "chebyshev", "gaussian")}
_CLASSES = {"MACE": "MACE", "ScaleShiftMACE": "ScaleShiftMACE"}


def convert(
    config: Mapping[str, Any], state: Mapping[str, NDArray[np.generic]], dtype: DtypeName
) -> Conversion:
    """Our configuration and weights for a published MACE; of its heads, `head` comes first.

    Without `head` that is the one called "default", or else the first of theirs.

    Raises:
        CheckpointError: for a block or an option that we do not have, or weights that are missing.
    """
    tensors = {key: torch.as_tensor(np.asarray(value)) for key, value in strip_prefix(state).items()}
    given = {_SYNONYMS.get(key, key): value for key, value in config.items()}
    heads = tuple(str(name) for name in given.get("heads") or ("default",))
    order = _head_order(heads, given.get("head"))
    ours = _config(given, [heads[index] for index in order], tensors, dtype)
    return Conversion(ours, our_weights(build(ours), tensors, order))


def _config(given: Mapping[str, Any], heads: list[str], state: State, dtype: DtypeName) -> MACEConfig:
    """Their options as ours."""
    _check_options(given)
    _check_constants(state)
    values: dict[str, Any] = {
        "dtype": dtype,
        "type_names": [chemical_symbols[number] for number in take(state, "atomic_numbers").tolist()],
        "first_interaction": _named(given, "first", _BLOCKS),
        "interaction": _named(given, "rest", _BLOCKS),
        "distance_transform": _named(given, "distance_transform", _TRANSFORMS, None),
        "readout_mlp_nonlinearity": _named(given, "gate", _GATES, "silu"),
        "pair_potential": "zbl" if given.get("pair_repulsion") else None,
        "heads": heads,
        "per_type_energy_scales": None,
        "per_type_energy_shifts": None,
        "interaction_shift": 0.0,
        **{ours: given[theirs] for theirs, ours in _KEYS.items() if given.get(theirs) is not None},
        "r_max": _r_max(given, state),
    }
    if values["interaction"].startswith("density") and values["first_interaction"].startswith("density"):
        values.setdefault("avg_num_neighbors", 1.0)  # which nothing is divided by
    for theirs in ("num_interactions", "hidden_irreps", "max_ell", "correlation", "avg_num_neighbors"):
        if _KEYS[theirs] not in values:
            raise CheckpointError(f"the published configuration has no {theirs!r}: add it.")
    if "MLP_irreps" in given:
        values["readout_mlp_width"] = _num_scalars(given["MLP_irreps"])
    values["hidden_irreps"] = str(values["hidden_irreps"]).replace(" ", "")
    try:
        return MACEConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise CheckpointError(
            f"the published configuration does not fit our MACE: {'.'.join(map(str, first['loc']))}: "
            f"{first['msg'].removeprefix('Value error, ')}."
        ) from error


def _check_options(given: Mapping[str, Any]) -> None:
    _named(given, "class", _CLASSES, "ScaleShiftMACE")
    _named(given, "radial_type", _RADIAL_TYPES, "bessel")
    known = {*_KEYS, *_READ, *_IGNORED, *_FIXED}
    others = [key for key in given if key not in known]
    if others:
        raise CheckpointError(
            f"the published options {', '.join(others)} are not ones that we can take over"
            f"{did_you_mean(others[0], known)}."
        )
    for key, value in _FIXED.items():
        if given.get(key) not in (None, value):
            raise CheckpointError(
                f"the published option {key}={given[key]!r} is not one that we have ({value})."
            )


def _named(given: Mapping[str, Any], key: str, names: Mapping[Any, Any], *default: str | None) -> Any:
    """Our name of the value of an option.

    Raises:
        CheckpointError: for a value that we do not have, and for none where there is no default.
    """
    if key not in given and not default:
        raise CheckpointError(f"the published configuration has no {key!r}: add it.")
    value = given.get(key, *default)
    if value not in names:
        ours = list(map(str, names))
        raise CheckpointError(
            f"the published {key} {value!r} is not one that we have{did_you_mean(str(value), ours)}: "
            f"there are {', '.join(ours)}."
        )
    return names[value]


def _head_order(heads: tuple[str, ...], head: str | None) -> list[int]:
    """Positions of their heads, the chosen one first."""
    if head is None:
        head = next((name for name in heads if name.lower() == "default"), heads[0])
    if head not in heads:
        raise CheckpointError(
            f"the published model has no head {head!r}{did_you_mean(str(head), heads)}: "
            f"there are {', '.join(heads)}."
        )
    chosen = heads.index(head)
    return [chosen, *(index for index in range(len(heads)) if index != chosen)]


def _r_max(given: Mapping[str, Any], state: State) -> float:
    """As the weights have it: to the last digit what they were trained with."""
    stored = float(take(state, "r_max"))
    if not isclose(stored, float(given.get("r_max", stored)), rel_tol=1e-6):
        raise CheckpointError(
            f"the published weights have r_max {stored:g} Å, but the configuration {given['r_max']:g} Å: "
            "it is that of another model."
        )
    return stored


def _num_scalars(irreps: Any) -> int:
    terms = Irreps(str(irreps).replace(" ", "")).terms
    if len(terms) != 1 or terms[0][1] != (0, 1):
        raise CheckpointError(
            f"the published MLP_irreps {irreps} are not scalars alone, which is all we have."
        )
    return terms[0][0]


def _check_constants(state: State) -> None:
    """Constants that could be trained have the values that ours have.

    Raises:
        CheckpointError: naming those that have not.
    """
    wanted: dict[str, float | tuple[float, ...]] = {
        **{f"radial_embedding.distance_transform.{name}": value for name, value in AGNESI.items()},
        "radial_embedding.distance_transform.alpha": SOFT_ALPHA,
        "pair_repulsion_fn.c": AMPLITUDES,
        "pair_repulsion_fn.a_exp": POWER,
        "pair_repulsion_fn.a_prefactor": PREFACTOR,
    }
    for key, value in wanted.items():
        if key in state and not np.allclose(state[key].double().numpy(), value, rtol=1e-6, atol=0):
            raise CheckpointError(f"the published {key} is {state[key].tolist()}, where ours is {value}.")
