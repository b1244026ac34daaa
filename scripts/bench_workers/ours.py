"""Our NequIP behind bench.py, with the weights that the published program drew."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from serve import serve

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.interop import from_published
from nequip.model.potential import Potential


def main(*, tables: bool = False) -> None:
    folder, threads, device = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(threads)
    config = json.loads((folder / "model.json").read_text())
    model = from_published(config, dict(np.load(folder / "weights.npz")), dtype="float32").to(device)
    if tables:
        model.tabulate_radial()
    structures = dict(np.load(folder / "structures.npz"))
    water = load(structures, "water", model).to(device)
    batch = collate([load(structures, f"ethanol_{i}", model) for i in range(5)]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)  # as nequip-train does

    def train_step() -> None:
        model.train()
        optimizer.zero_grad()
        out = model(batch)
        (out.energy.square().mean() + out.forces.square().mean()).backward()
        optimizer.step()

    def forces() -> torch.Tensor:
        model.eval()
        return model(water).forces

    serve({"forces_water": forces, "train_step_ethanol_5": train_step})


def load(structures: dict[str, np.ndarray], name: str, model: Potential) -> AtomicGraph:
    part = {key: structures[f"{name}/{key}"] for key in ("numbers", "positions", "cell", "pbc")}
    frame = Frame(part["numbers"], part["positions"], part["cell"], tuple(bool(x) for x in part["pbc"]))
    return build_graph(frame, TypeMapper(model.card.type_names), model.cutoffs)


if __name__ == "__main__":
    main()
