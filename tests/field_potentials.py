"""Small potentials of H and O that know an electric field, with weights drawn from a seed."""

from __future__ import annotations

from typing import Any

from nequip.model.potential import Potential
from nequip.model.registry import build_potential, get_architecture

FIELD_SHAPES: dict[str, dict[str, Any]] = {
    "nequip": {"num_layers": 2, "l_max": 2, "num_features": 4, "radial_mlp_width": 8},
    "allegro": {"num_layers": 1, "l_max": 2, "num_scalar_features": 8, "num_tensor_features": 4},
    "mace": {
        "hidden_irreps": "4x0e+4x1o+4x2e",
        "l_max": 2,
        "correlation": 2,
        "radial_mlp": (8,),
        "interaction_shift": 0.0,
    },
}
FIELD_BASE = {
    "type_names": ("H", "O"),
    "r_max": 4.0,
    "avg_num_neighbors": 3.0,
    "per_type_energy_scales": None,
    "per_type_energy_shifts": None,
    "dtype": "float64",
    "electric_field": True,
}


def field_potential(name: str, **changes: Any) -> Potential:
    schema = get_architecture(name).config
    return build_potential(
        schema.model_validate({"name": name, **FIELD_BASE, **FIELD_SHAPES[name], **changes})
    ).eval()
