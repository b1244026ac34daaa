"""The .model files in tests/interop/files: small MACE with random weights, and what mace-torch predicts.

Runs in an environment of mace-torch (0.3.16, e3nn 0.4.4): python scripts/published_files/mace_torch.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

torch.serialization.add_safe_globals([slice])  # e3nn 0.4.4 loads its constants with it

from ase.build import molecule  # noqa: E402
from e3nn import o3  # noqa: E402
from mace import modules  # noqa: E402
from mace.calculators import MACECalculator  # noqa: E402

BLOCKS = modules.interaction_classes
COMMON = {
    "r_max": 4.0,
    "num_bessel": 4,
    "num_polynomial_cutoff": 5,
    "max_ell": 2,
    "num_interactions": 2,
    "num_elements": 3,
    "atomic_numbers": [1, 6, 8],
    "MLP_irreps": o3.Irreps("4x0e"),
    "avg_num_neighbors": 9.5,
    "correlation": 2,
    "gate": torch.nn.functional.silu,
    "radial_MLP": [16, 16],
}
MODELS = {
    "mace_small": {
        "dtype": "float32",
        "hidden_irreps": o3.Irreps("4x0e+4x1o"),
        "atomic_energies": np.array([-1.0, -2.0, -3.0]),
        "atomic_inter_scale": 0.8,
        "atomic_inter_shift": 0.1,
        "interaction_cls_first": BLOCKS["RealAgnosticInteractionBlock"],
        "interaction_cls": BLOCKS["RealAgnosticResidualInteractionBlock"],
    },
    "mace_two_heads": {
        "dtype": "float64",
        "heads": ["dft", "cc"],
        "hidden_irreps": o3.Irreps("2x0e"),
        "atomic_energies": np.array([[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0]]),
        "atomic_inter_scale": [0.7, 1.3],
        "atomic_inter_shift": [0.1, -0.2],
        "pair_repulsion": True,
        "distance_transform": "Agnesi",
        "interaction_cls_first": BLOCKS["RealAgnosticDensityInteractionBlock"],
        "interaction_cls": BLOCKS["RealAgnosticDensityResidualInteractionBlock"],
    },
}


def main() -> None:
    for name, options in MODELS.items():
        write(Path(sys.argv[1]) / name, **options)


def write(path: Path, dtype: str, **options) -> None:
    torch.set_default_dtype(getattr(torch, dtype))
    torch.manual_seed(3)
    file = path.with_suffix(".model")
    torch.save(modules.ScaleShiftMACE(**COMMON, **options), file)
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    values = {"numbers": atoms.numbers, "positions": atoms.positions}
    for head in options.get("heads", [None]):
        # the model is evaluated in double precision whatever its weights are
        chosen = {} if head is None else {"head": head}
        atoms.calc = MACECalculator(model_paths=str(file), device="cpu", default_dtype="float64", **chosen)
        suffix = "" if head is None else f"/{head}"
        values[f"energy{suffix}"] = atoms.get_potential_energy()
        values[f"forces{suffix}"] = atoms.get_forces()
    np.savez_compressed(path.with_suffix(".npz"), **values)


if __name__ == "__main__":
    main()
