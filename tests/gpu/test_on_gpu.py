"""Whole potentials on a GPU give what they give on a CPU: prediction, training step, file, calculator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from golden_files import Golden, golden_files
from small_artefacts import small_potential

from nequip.calculators.ase import NequIPCalculator
from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.export.export import ExportSettings, export
from nequip.model.potential import Potential

pytestmark = pytest.mark.gpu
ARCHITECTURES = ["nequip", "allegro", "mace"]
FILES = {path.stem: path for name in ARCHITECTURES for path in golden_files(name)}
GOLDEN = [(name, head) for name, path in FILES.items() for head in Golden(path).config.get("heads", [None])]


def structures() -> list[Atoms]:
    ethanol, silicon = molecule("CH3CH2OH"), bulk("Si", cubic=True).repeat((2, 1, 1))
    for atoms in (ethanol, silicon):
        atoms.rattle(0.1, seed=1)
    return [ethanol, silicon, Atoms("H"), Atoms("O2", positions=[[0, 0, 0], [9, 0, 0]])]


def graph(potential: Potential, *structures: Atoms) -> AtomicGraph:
    mapper = TypeMapper(potential.card.type_names)
    frames = [
        Frame(a.numbers, a.positions, np.asarray(a.cell), tuple(bool(x) for x in a.pbc)) for a in structures
    ]
    return collate([build_graph(frame, mapper, potential.cutoffs) for frame in frames])


@pytest.mark.parametrize(("name", "head"), GOLDEN)
def test_published_potentials(name, head):
    golden = Golden(FILES[name])
    golden.config |= {} if head is None else {"head": head}
    golden.check_float64(golden.predict("ethanol", "float64", device="cuda"), "ethanol")
    golden.check_float32(golden.predict("ethanol", "float32", device="cuda"), "ethanol")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_training_step(architecture):
    gradients = []
    for device in ("cpu", "cuda"):
        potential = small_potential(architecture, "float64").to(device).train()
        prediction = potential(graph(potential, *structures()).to(device))
        loss = prediction.energy.square().mean() + prediction.forces.square().mean()
        loss.backward()
        gradients.append(
            {
                name: weight.grad.cpu()
                for name, weight in potential.named_parameters()
                if weight.grad is not None
            }
        )
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_compiled_file(architecture, dtype, tmp_path):
    potential = small_potential(architecture, dtype).eval()
    path = tmp_path / "small.nequip.pt2"
    export(small_potential(architecture, dtype).cuda(), path, ExportSettings(target="ase"))
    tolerance = 1e-9 if dtype == "float64" else 2e-4
    for atoms in structures():
        on_cpu, compiled = potential(graph(potential, atoms)), NequIPCalculator(str(path), device="cuda")
        np.testing.assert_allclose(compiled.get_forces(atoms), on_cpu.forces.numpy(), rtol=0, atol=tolerance)
