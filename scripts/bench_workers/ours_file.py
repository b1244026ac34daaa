"""Ours behind bench.py as one compiled file, which is made when the program starts."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from ours import load
from serve import serve

from nequip.export.artefact import CompiledPotential
from nequip.export.export import ExportSettings, export
from nequip.interop import from_published


def main() -> None:
    folder, threads, device = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(threads)
    config = json.loads((folder / "model.json").read_text())
    model = from_published(config, dict(np.load(folder / "weights.npz")), dtype="float32")
    water = load(dict(np.load(folder / "structures.npz")), "water", model).to(device)
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "model.nequip.pt2"
        export(model.to(device), path, ExportSettings(target="ase"))
        compiled = CompiledPotential(path, device)
        serve({"forces_water": lambda: compiled(water).forces})


if __name__ == "__main__":
    main()
