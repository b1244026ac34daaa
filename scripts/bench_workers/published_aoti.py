"""The published nequip, compiled with AOTInductor, behind bench.py; runs in an environment of its own."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from published import load, on
from serve import serve

from nequip.integrations.ase import NequIPCalculator


def main() -> None:
    warnings.filterwarnings("ignore")
    folder, threads, device = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(threads)
    calculator = NequIPCalculator.from_compiled_model(folder / "model.nequip.pt2", device=device)
    config = json.loads((folder / "model.json").read_text())
    water = on(device, load(dict(np.load(folder / "structures.npz")), "water", config))
    serve({"forces_water": lambda: calculator.call_model(dict(water))["forces"]})


if __name__ == "__main__":
    main()
