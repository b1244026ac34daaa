"""The .ckpt files in tests/interop/files: small models, random weights and averages, as nequip saves them.

Runs in an environment of nequip (0.19.1) and nequip-allegro, once for each version whose files it writes;
an older nequip is put before the installed one with PYTHONPATH (its wheel, unpacked):

    python scripts/published_files/nequip_versions.py FOLDER
    PYTHONPATH=nequip-0.7.0 python scripts/published_files/nequip_versions.py FOLDER
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import torch

_entry_points = importlib.metadata.entry_points
# the installed allegro would be loaded by an older nequip, with which it does not work
if any("nequip-" in path for path in sys.path):
    importlib.metadata.entry_points = lambda **group: (
        [] if group.get("group") == "nequip.extension" else _entry_points(**group)
    )

from ase.build import molecule  # noqa: E402
from lightning import Trainer  # noqa: E402
from nequip.utils import get_current_code_versions  # noqa: E402
from nequip.utils.global_state import set_global_state  # noqa: E402

import nequip  # noqa: E402
from nequip.data import compute_neighborlist_, from_dict  # noqa: E402
from nequip.train import EMALightningModule  # noqa: E402

TYPES = ["H", "C", "O"]
SHIFTS = {"H": -1.0, "C": -2.0, "O": -3.0}
COMMON = {
    "seed": 3,
    "model_dtype": "float64",
    "type_names": TYPES,
    "r_max": 4.0,
    "avg_num_neighbors": 7.5,
    "per_type_energy_shifts": SHIFTS,
    "num_layers": 2,
}
NEQUIP = {**COMMON, "_target_": "nequip.model.NequIPGNNModel", "num_features": 4, "radial_mlp_width": 8}
OLD = {**COMMON, "_target_": "nequip.model.NequIPGNNModel", "num_features": 2, "l_max": 2}
ZBL = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": TYPES}
CURRENT = {
    "nequip_ema": {
        **NEQUIP,
        "per_type_energy_scales": 1.5,
        "per_type_energy_shifts_trainable": True,
        "bessel_trainable": True,
        "pair_potential": ZBL,
    },
    "nequip_modified": {
        "_target_": "nequip.model.modify",
        "model": {**NEQUIP, "per_type_energy_scales": {"H": 1.0, "C": 2.0, "O": 3.0}},
        "modifiers": [
            {"modifier": "modify_PerTypeScaleShift", "shifts": {"C": -20.0}, "shifts_trainable": True}
        ],
    },
    "allegro_spline": {
        **COMMON,
        "_target_": "allegro.model.AllegroModel",
        "l_max": 1,
        "num_scalar_features": 4,
        "num_tensor_features": 2,
        "scalar_embed_mlp_hidden_layers_width": 8,
        "allegro_mlp_hidden_layers_width": 8,
        "readout_mlp_hidden_layers_width": 4,
        "radial_chemical_embed": {
            "_target_": "allegro.nn.TwoBodySplineScalarEmbed",
            "num_splines": 6,
            "spline_span": 4,
        },
        "pair_potential": ZBL,
    },
}
MODELS = {
    "0.7.0": {"nequip_0_7": {**OLD, "per_type_energy_shifts": list(SHIFTS.values())}},
    "0.15.0": {
        "nequip_0_15_rotations": {**OLD, "parity": False, "radial_mlp_depth": 1, "radial_mlp_width": 8}
    },
    "0.19.1": CURRENT,
}


def main() -> None:
    set_global_state()
    for name, model in MODELS[nequip.__version__].items():
        write(Path(sys.argv[1]) / name, model)


def write(path: Path, model: dict) -> None:
    torch.manual_seed(1)
    module = EMALightningModule(
        model=model,
        num_datasets={"train": 1, "val": 0, "test": 0},
        optimizer={"_target_": "torch.optim.Adam", "lr": 0.01},
        loss={"_target_": "nequip.train.EnergyForceLoss", "coeffs": {"total_energy": 1.0, "forces": 1.0}},
        info_dict={
            "versions": get_current_code_versions(verbose=False),
            "training_module": {"_target_": "nequip.train.EMALightningModule"},
        },
    )
    for index in range(module.ema.num_ema_weights):
        average = getattr(module.ema, f"ema_weight_{index}")
        average += 0.1 * torch.randn_like(average)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path.with_suffix(".ckpt"))
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    types = torch.tensor([TYPES.index(symbol) for symbol in atoms.symbols])
    graph = from_dict({"pos": torch.as_tensor(atoms.positions), "atom_types": types})
    # what nequip itself infers with, and compiles
    predicted = module.evaluation_model["sole_model"].eval()(compute_neighborlist_(graph, r_max=4.0))
    np.savez_compressed(
        path.with_suffix(".npz"),
        numbers=atoms.numbers,
        positions=atoms.positions,
        energy=predicted["total_energy"].item(),
        forces=predicted["forces"].detach().numpy(),
    )


if __name__ == "__main__":
    main()
