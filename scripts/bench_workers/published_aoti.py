"""The published nequip, compiled with AOTInductor, behind bench.py; runs in an environment of its own."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from published import load
from serve import serve

from nequip.integrations.ase import NequIPCalculator


def main() -> None:
    warnings.filterwarnings("ignore")
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    calculator = NequIPCalculator.from_compiled_model(folder / "model.nequip.pt2", device="cpu")
    config = json.loads((folder / "model.json").read_text())
    water = load(dict(np.load(folder / "structures.npz")), "water_192", config)
    serve({"forces_water_192": lambda: calculator.call_model(dict(water))["forces"]})


if __name__ == "__main__":
    main()
