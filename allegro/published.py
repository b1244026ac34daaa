"""Weights of the published package: its configuration and state dict -> ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from allegro.config import AllegroConfig
from allegro.embedding import SplineEmbedding
from allegro.model import Allegro, AllegroLayer, build
from nequip.errors import CheckpointError
from nequip.interop.published import (
    Conversion,
    from_config,
    mlp_weights,
    scale_shift_weights,
    strip_prefix,
    take,
    take_flat,
)
from nequip.model.card import DtypeName

# Their name -> ours.
_MLPS = {"scalar_embed_mlp": "scalar_embed_mlp", "allegro_mlp": "latent_mlp", "readout_mlp": "readout_mlp"}
_KEYS = {
    **{key: key for key in ("num_layers", "l_max", "parity", "num_scalar_features", "num_tensor_features")},
    **{key: key for key in ("num_bessels", "bessel_trainable", "polynomial_cutoff_p")},
    **{key: key for key in ("num_splines", "spline_span", "avg_num_neighbors", "per_edge_type_cutoff")},
    **{key: key for key in ("per_type_energy_scales_trainable", "per_type_energy_shifts_trainable")},
    **{f"{theirs}_hidden_layers_depth": f"{ours}_depth" for theirs, ours in _MLPS.items()},
    **{f"{theirs}_hidden_layers_width": f"{ours}_width" for theirs, ours in _MLPS.items()},
    **{f"{theirs}_nonlinearity": f"{ours}_nonlinearity" for theirs, ours in _MLPS.items()},
    "radial_chemical_embed_dim": "radial_embedding_dim",
    "tp_path_channel_coupling": "path_channel_coupling",
    "radial_embedding": "radial_embedding",
}
# What they take where a configuration is silent and our default is another.
_DEFAULTS = {
    "num_tensor_features": 16,
    "scalar_embed_mlp_hidden_layers_width": 64,
    "allegro_mlp_hidden_layers_width": 64,
    "readout_mlp_hidden_layers_width": 32,
}
_EMBEDDINGS = {"TwoBodyBesselScalarEmbed": "bessel", "TwoBodySplineScalarEmbed": "spline"}
# Options of which we have one value alone.
_FIXED = {"weight_individual_irreps": True, "forward_normalize": True}


def convert(
    config: Mapping[str, Any], state: Mapping[str, NDArray[np.floating[Any]]], dtype: DtypeName
) -> Conversion:
    """Our configuration and weights for a published Allegro.

    Raises:
        CheckpointError: for an option that we do not have, or weights that are missing.
    """
    given = {key: value for key, value in config.items() if key not in _FIXED or _FIXED[key] != value}
    given |= _radial_embedding(given.pop("radial_chemical_embed", {}))
    values = from_config(_DEFAULTS | given, _KEYS, dtype)
    for theirs, ours in _MLPS.items():
        # their None means no activation; everywhere else it means their default
        values[f"{ours}_nonlinearity"] = config.get(f"{theirs}_nonlinearity", "silu")
    ours = AllegroConfig.model_validate(values)
    tensors = {key: torch.as_tensor(np.asarray(value)) for key, value in strip_prefix(state).items()}
    return Conversion(ours, _weights(build(ours), tensors))


def _radial_embedding(given: Mapping[str, Any]) -> dict[str, Any]:
    """Their nested section as keys beside the others."""
    target = str(given.get("_target_"))
    name = target.rpartition(".")[2]
    if name not in _EMBEDDINGS:
        raise CheckpointError(
            f"the published radial_chemical_embed {target!r} is not one of ours ({', '.join(_EMBEDDINGS)})."
        )
    rest = {key: value for key, value in given.items() if key != "_target_"}
    return {**rest, "radial_embedding": _EMBEDDINGS[name]}


def _weights(model: Allegro, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename and reshape: where their columns are [channel, irrep], ours are [irrep, channel]."""
    weights = _embedding_weights(model, state)
    mlps = {
        "scalar_embedding": ("scalar_embed_mlp.mlp_module", model.scalar_embedding),
        "tensor_embedding": ("tensor_embed.env_embed_linear", model.tensor_embedding),
        "first_latent": ("allegro.first_layer_env_embed_projection", model.first_latent),
        "readout": ("edge_readout.mlp_module", model.readout),
    }
    for index, layer in enumerate(model.layers):
        assert isinstance(layer, AllegroLayer)
        mlps[f"layers.{index}.latent"] = (f"allegro.latents.{index}", layer.latent)
        paths = take_flat(state, f"allegro.tps.{index}.weights", layer.weight.numel())
        # theirs are [channel, path] or [path], without the path where there is one alone
        weights[f"layers.{index}.weight"] = paths.reshape(layer.weight.t().shape).t()
    for ours, (theirs, mlp) in mlps.items():
        weights |= mlp_weights(state, theirs, mlp, ours)
        last, scalars = len(mlp.weights) - 1, 0 if ours == "tensor_embedding" else model.num_scalars
        if mlp.weights[last].shape[1] == scalars + model.num_env_weights:  # it ends in weights of harmonics
            key = f"{ours}.weights.{last}"
            weights[key] = _irreps_first(weights[key], scalars, len(model.irreps_env))
    return weights | scale_shift_weights(state, model.scale_shift)


def _embedding_weights(model: Allegro, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    embedding = model.radial_embedding
    if isinstance(embedding, SplineEmbedding):
        key, weight = "radial_chemical_embed.spline.class_embed.weight", embedding.weight
        return {"radial_embedding.weight": take_flat(state, key, weight.numel()).reshape(weight.shape)}
    theirs = "radial_chemical_embed.type_embed"
    roots = take(state, "radial_chemical_embed.bessel_encode.bessel_weights")
    return {
        "radial_embedding.center": take(state, f"{theirs}.center_embed.weight"),
        "radial_embedding.neighbor": take(state, f"{theirs}.neighbor_embed.weight"),
        "radial_embedding.basis.roots": roots.flatten(),
        **mlp_weights(state, f"{theirs}.basis_linear", embedding.mix, "radial_embedding.mix"),
    }


def _irreps_first(matrix: torch.Tensor, start: int, num_irreps: int) -> torch.Tensor:
    """[channel, irrep] -> [irrep, channel] in the columns from `start` on."""
    scalars, weights = matrix[:, :start], matrix[:, start:]
    return torch.cat([scalars, weights.unflatten(1, (-1, num_irreps)).mT.flatten(1)], dim=1)
