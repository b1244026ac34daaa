"""The published nequip behind bench.py; runs in an environment of its own."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from nequip.utils.global_state import set_global_state
from serve import serve

from nequip.data import AtomicDataDict, compute_neighborlist_, from_dict


def main() -> None:
    warnings.filterwarnings("ignore")
    folder, threads, device = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(threads)
    set_global_state()
    config = json.loads((folder / "model.json").read_text())
    model = instantiate(described(config), _recursive_=False)
    if (folder / "weights.npz").exists():
        state = np.load(folder / "weights.npz")
        model.load_state_dict({key: torch.as_tensor(state[key]) for key in state})
    else:
        save_weights(model, folder / "weights.npz")
    model.to(device)
    structures = dict(np.load(folder / "structures.npz"))
    water = on(device, load(structures, "water", config))
    ethanol = [load(structures, f"ethanol_{i}", config) for i in range(5)]
    batch = on(device, AtomicDataDict.batched_from_list(ethanol))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def train_step() -> None:
        model.train()
        optimizer.zero_grad()
        out = model(dict(batch))
        (out["total_energy"].square().mean() + out["forces"].square().mean()).backward()
        optimizer.step()

    def forces() -> torch.Tensor:
        model.eval()
        return model(dict(water))["forces"]

    serve({"forces_water": forces, "train_step_ethanol_5": train_step})


def on(device: str, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.to(device) for key, value in data.items()}


def described(config: dict) -> dict:
    """The model as the published package describes one: what builds it, and with which arguments."""
    rest = {key: value for key, value in config.items() if key != "architecture"}
    allegro = config.get("architecture") == "allegro"
    target = "allegro.model.AllegroModel" if allegro else "nequip.model.NequIPGNNModel"
    return {"_target_": target, "seed": 0, "model_dtype": "float32", **rest}


def save_weights(model: torch.nn.Module, file: Path) -> None:
    np.savez(file, **{key: value.double().numpy() for key, value in model.state_dict().items()})


def load(structures: dict[str, np.ndarray], name: str, config: dict) -> dict:
    symbols = {1: "H", 6: "C", 8: "O"}
    types = [config["type_names"].index(symbols[number]) for number in structures[f"{name}/numbers"]]
    data = {"pos": torch.as_tensor(structures[f"{name}/positions"]), "atom_types": torch.tensor(types)}
    if structures[f"{name}/pbc"].any():
        data["cell"] = torch.as_tensor(structures[f"{name}/cell"])
        data["pbc"] = torch.as_tensor(structures[f"{name}/pbc"])
    return compute_neighborlist_(from_dict(data), r_max=config["r_max"])


if __name__ == "__main__":
    main()
