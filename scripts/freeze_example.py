"""Write a saved potential and its numbers for tests/model/frozen: each architecture, each format, for ever.

python scripts/freeze_example.py v1 nequip|allegro|mace
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "model"))

from test_checkpoint import water

from nequip.model.registry import build_potential, get_architecture

SHARED = {
    "type_names": ("H", "O"),
    "r_max": 3.0,
    "per_edge_type_cutoff": {"H": 2.0, "O": {"H": 2.5}},
    "avg_num_neighbors": 5.0,
    "per_type_energy_scales": 2.0,
    "per_type_energy_shifts": -1.0,
    "pair_potential": "zbl",
    "l_max": 2,
    "dtype": "float64",
    "seed": 1,
}
SHAPES = {
    "nequip": {"num_layers": 2, "num_features": 4, "radial_mlp_width": 8},
    "allegro": {"num_layers": 2, "num_scalar_features": 8, "num_tensor_features": 4},
    "mace": {
        "hidden_irreps": "4x0e+4x1o",
        "radial_mlp": (8, 8),
        "heads": ("dft", "cc"),
        "interaction_shift": 0.1,
    },
}


def main() -> None:
    """Freeze a small potential with per-edge-type cutoffs and ZBL."""
    version, name = sys.argv[1:]
    folder = Path(__file__).parents[1] / "tests" / "model" / "frozen"
    potential = build_potential(
        get_architecture(name).config.model_validate({**SHARED, **SHAPES[name]})
    ).eval()
    target = folder / (f"{version}.nequip" if name == "nequip" else f"{version}_{name}.nequip")
    potential.save(target)
    prediction = potential(water(potential))
    numbers = {"energy": prediction.energy.tolist(), "forces": prediction.forces.flatten().tolist()}
    target.with_suffix(".json").write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
