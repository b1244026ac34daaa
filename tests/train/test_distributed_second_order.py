"""Hessians, force constants and denoising: two processes have the gradients of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ase import Atoms
from taught_frames import SHAPES, crystal, saved, taught, teacher

from nequip.data.frame import Frame
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.phonons import hessian
from nequip.phonons.crystal import Phonons
from nequip.phonons.phonopy_files import to_phonopy
from nequip.train.run import run_training

MODEL = {
    "name": "nequip",
    "r_max": 4.0,
    **SHAPES["nequip"],
    "dtype": "float64",
    "backend": "cpu",
    "per_type_energy_shifts": {"H": 0.0, "Cu": 0.0},
    "per_type_energy_scales": None,
}
TRAIN = {
    "hessian": {"loss": {"hessian": {"num_directions": 2}}},
    "force_constants": {"loss": {"force_constants": {}}},
    "dens": {"dens": {"probability": 0.6, "ratio": 0.5}},
}


def frames(folder: Path) -> str:
    """Molecules of which every other one has a Hessian, and crystals with force constants among them."""
    from ase.build import bulk

    potential = teacher("nequip", seed=9)
    molecules: list[Atoms] = taught([crystal(index) for index in range(5)], potential)
    for atoms in molecules[::2]:
        graph = build_graph(Frame(atoms.numbers, atoms.positions), TypeMapper(("H", "Cu")), potential.cutoffs)
        atoms.arrays["REF_hessian"] = hessian(potential, graph).numpy().reshape(len(atoms), -1)
    saved(molecules, folder / "data0.xyz")
    for index in (1, 2):
        phonons = Phonons(potential, bulk("HCu", "rocksalt", a=4.4 + 0.1 * index))
        cells = to_phonopy(phonons, (2, 2, 2))
        cells.save(folder / f"data{index}.yaml", settings={"force_constants": True})
    return str(folder / "data*")


@pytest.mark.parametrize("task", TRAIN)
def test_gradients_are_those_of_one_process(make_config, tmp_path, task):
    file, found = frames(tmp_path), []
    for width in (1, 2):
        watch = {"_target_": "saboteurs.SaveGradients", "file": str(tmp_path / f"{width}.pt")}
        several = {} if width == 1 else {"devices": width, "strategy": "ddp"}
        run_training(
            make_config(
                model=MODEL,
                # a last batch of one frame leaves a process without any
                data={"file": file, "split": {"train": 7, "val": 0}, "batch": {"size": 3}},
                train={**TRAIN[task], "monitor": "train/loss"},
                trainer={"max_epochs": 2, "logging": {"progress": "off"}, "report": False, **several},
                extensions={"callbacks": [watch]},
                output_dir=str(tmp_path / f"run{width}"),
            )
        )
        found.append(torch.load(tmp_path / f"{width}.pt", weights_only=True))
    assert len(found[0]) == len(found[1]) > 3
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)
