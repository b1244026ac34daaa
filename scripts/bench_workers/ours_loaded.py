"""A published file through `nequip.load`, behind bench_doors.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from serve import serve

import nequip
from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.interop import from_published
from nequip.model.potential import Potential


def main(*, tables: bool = False) -> None:
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    model = load(folder)
    if tables:
        model.tabulate_radial()
    graph = read_graph(folder, model)

    def forces() -> torch.Tensor:
        return model(graph).forces

    serve({"evaluate": forces})


def load(folder: Path) -> Potential:
    problem = json.loads((folder / "problem.json").read_text())
    if problem["case"] == "ani500k":
        arrays = dict(np.load(f"{problem['pretrained']}/ani500k_small_cc.npz"))
        state = {key.removeprefix("state/"): x for key, x in arrays.items() if key.startswith("state/")}
        return from_published(json.loads(str(arrays["config"])), state, problem["dtype"])
    path = (folder / "path").read_text()
    return nequip.load(path, dtype=problem["dtype"])


def read_graph(folder: Path, model: Potential) -> AtomicGraph:
    part = dict(np.load(folder / "structure.npz"))
    frame = Frame(part["numbers"], part["positions"], part["cell"], tuple(bool(x) for x in part["pbc"]))
    return build_graph(frame, TypeMapper(model.card.type_names), model.cutoffs)


if __name__ == "__main__":
    main()
