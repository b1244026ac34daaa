"""The published sevenn behind bench_doors.py; runs in an environment of its own."""

from __future__ import annotations

import sys
import warnings
from copy import deepcopy
from pathlib import Path

import numpy as np
import sevenn
import torch
from ase import Atoms
from serve import serve
from sevenn.atom_graph_data import AtomGraphData
from sevenn.calculator import SevenNetCalculator
from sevenn.train.dataload import unlabeled_atoms_to_graph

CHECKPOINT = "pretrained_potentials/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth"


def main() -> None:
    warnings.filterwarnings("ignore")
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    path = Path(sevenn.__file__).parent / CHECKPOINT
    (folder / "path").write_text(str(path))
    calculator = SevenNetCalculator(path, device="cpu")
    part = dict(np.load(folder / "structure.npz"))
    atoms = Atoms(part["numbers"], part["positions"], cell=part["cell"], pbc=part["pbc"])
    graph = AtomGraphData.from_numpy_dict(
        unlabeled_atoms_to_graph(atoms, calculator.cutoff, with_shift=False)
    )

    def forces() -> torch.Tensor:
        return calculator.model(deepcopy(graph))["inferred_force"]

    serve({"evaluate": forces})


if __name__ == "__main__":
    main()
