"""The published mace-torch behind bench_doors.py; runs in an environment of its own."""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

torch.serialization.add_safe_globals([slice])  # which e3nn 0.4.4 loads when it is imported

with contextlib.redirect_stdout(sys.stderr):  # it talks
    from e3nn import o3
    from mace import data, modules
    from mace.tools import AtomicNumberTable, torch_geometric
from serve import serve  # noqa: E402


def main() -> None:
    warnings.filterwarnings("ignore")
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    problem = json.loads((folder / "problem.json").read_text())
    torch.set_default_dtype(getattr(torch, problem["dtype"]))
    model = pretrained(problem) if problem["case"] == "ani500k" else universal(folder)
    model = model.to(torch.get_default_dtype())
    batch = read_batch(folder, model)

    def forces() -> torch.Tensor:
        return model(batch, compute_force=True)["forces"]

    serve({"evaluate": forces})


def pretrained(problem: dict[str, str]) -> torch.nn.Module:
    """The model of ani500k_small_cc.npz."""
    arrays = np.load(f"{problem['pretrained']}/ani500k_small_cc.npz")
    config = json.loads(str(arrays["config"]))
    model = build(config, np.array(arrays["state/atomic_energies_fn.atomic_energies"]))
    state = {
        key.removeprefix("state/"): torch.as_tensor(arrays[key]) for key in arrays if key.startswith("state/")
    }
    model.load_state_dict(state, strict=False)
    return model


def universal(folder: Path) -> torch.nn.Module:
    """A MACE with random weights, as large as the universal ones; written as its package writes models."""
    torch.manual_seed(0)
    config = {
        "r_max": 6.0,
        "num_bessel": 10,
        "num_polynomial_cutoff": 5,
        "max_ell": 3,
        "first": "RealAgnosticResidualInteractionBlock",
        "rest": "RealAgnosticResidualInteractionBlock",
        "num_interactions": 2,
        "hidden_irreps": "128x0e+128x1o",
        "atomic_numbers": list(range(1, 90)),
        "avg_num_neighbors": 60.0,
        "correlation": [3, 3],
    }
    model = build(config, np.zeros(89))
    (folder / "path").write_text(str(folder / "universal.model"))
    torch.save(model, folder / "universal.model")
    return model


def build(config: dict, atomic_energies: np.ndarray) -> torch.nn.Module:
    return modules.ScaleShiftMACE(
        r_max=config["r_max"],
        num_bessel=config["num_bessel"],
        num_polynomial_cutoff=config["num_polynomial_cutoff"],
        max_ell=config["max_ell"],
        interaction_cls=modules.interaction_classes[config["rest"]],
        interaction_cls_first=modules.interaction_classes[config["first"]],
        num_interactions=config["num_interactions"],
        num_elements=len(config["atomic_numbers"]),
        hidden_irreps=o3.Irreps(config["hidden_irreps"]),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=atomic_energies,
        avg_num_neighbors=config["avg_num_neighbors"],
        atomic_numbers=config["atomic_numbers"],
        correlation=config["correlation"],
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )


def read_batch(folder: Path, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    part = dict(np.load(folder / "structure.npz"))
    configuration = data.Configuration(
        atomic_numbers=part["numbers"],
        positions=part["positions"],
        properties={},
        property_weights={},
        cell=part["cell"],
        pbc=tuple(bool(x) for x in part["pbc"]),
    )
    table = AtomicNumberTable([int(z) for z in model.atomic_numbers])
    graph = data.AtomicData.from_config(configuration, z_table=table, cutoff=float(model.r_max))
    loader = torch_geometric.dataloader.DataLoader([graph], batch_size=1, shuffle=False)
    return next(iter(loader)).to_dict()


if __name__ == "__main__":
    main()
