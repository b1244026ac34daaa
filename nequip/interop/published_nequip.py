"""NequIP weights of the published package: its configuration and state dict -> ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

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
from nequip.model.nequip import NequIPConfig, build
from nequip.nn.linear import IrrepsLinear, TypeLinear

# Their name -> ours, where the meaning is the same.
_KEYS = {
    **{key: key for key in ("num_layers", "l_max", "parity", "num_features", "type_embed_num_features")},
    "hidden_irreps": "hidden_irreps",  # in which older versions had another order
    **{key: key for key in ("radial_mlp_depth", "radial_mlp_width", "num_bessels", "bessel_trainable")},
    **{key: key for key in ("polynomial_cutoff_p", "avg_num_neighbors", "per_edge_type_cutoff")},
    **{key: key for key in ("per_type_energy_scales_trainable", "per_type_energy_shifts_trainable")},
    "readout_mlp_hidden_layers_depth": "readout_mlp_depth",
    "readout_mlp_hidden_layers_width": "readout_mlp_width",
    "readout_mlp_nonlinearity": "readout_mlp_nonlinearity",
}


def convert(
    config: Mapping[str, Any], state: Mapping[str, NDArray[np.floating[Any]]], dtype: DtypeName
) -> Conversion:
    """Our configuration and weights for a published NequIP.

    Raises:
        CheckpointError: for an option that we do not have, or weights that are missing.
    """
    values = from_config(config, _KEYS, dtype)
    # their None means no activation; everywhere else it means their default, which is ours too
    values["readout_mlp_nonlinearity"] = config.get("readout_mlp_nonlinearity", "silu")
    ours = NequIPConfig.model_validate(values)
    tensors = {key: torch.as_tensor(np.asarray(value)) for key, value in strip_prefix(state).items()}
    return Conversion(ours, _weights(ours, tensors))


def _weights(config: NequIPConfig, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename and reshape; per irrep their flat weights are [channels_in, (scalars,) channels_out]."""
    model = build(config)
    weights = {"type_embedding": take(state, "type_embed.embed_module.weight")}
    weights["bessel.roots"] = take(state, "bessel_encode.bessel_weights").flatten()
    for index, layer in enumerate(model.layers):
        theirs, ours = f"layer{index}_convnet.conv", f"layers.{index}"
        linear_in, linear_out, connection = layer.linear_in, layer.linear_out, layer.self_connection
        weights |= _split(state, f"{theirs}.linear_1.weight", linear_in, f"{ours}.linear_in")
        weights |= _split(state, f"{theirs}.linear_2.weight", linear_out, f"{ours}.linear_out")
        if connection is not None:
            weights |= _split(state, f"{theirs}.sc.weight", connection, f"{ours}.self_connection")
        weights |= mlp_weights(state, f"{theirs}.edge_mlp", layer.radial, f"{ours}.radial")
    weights |= mlp_weights(state, "per_atom_energy_readout.mlp_module", model.readout, "readout")
    return weights | scale_shift_weights(state, model.scale_shift)


def _split(
    state: dict[str, torch.Tensor], theirs: str, linear: IrrepsLinear | TypeLinear, ours: str
) -> dict[str, torch.Tensor]:
    """Cut a flat weight into one matrix for each irrep, in the order of the input irreps."""
    sizes = [weight.numel() for weight in linear.weights.values()]
    parts = take_flat(state, theirs, sum(sizes)).split(sizes)
    return {
        f"{ours}.weights.{irrep}": part.reshape(weight.shape)
        for part, (irrep, weight) in zip(parts, linear.weights.items(), strict=True)
    }
