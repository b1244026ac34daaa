"""Potentials in TorchSim, by its own check of models."""

from __future__ import annotations

import pytest
import torch
from ase.build import bulk, molecule

from nequip.calculators import NequIPCalculator
from nequip.errors import ModelError

torch_sim = pytest.importorskip("torch_sim", reason="TorchSim is an optional package")


@pytest.fixture(scope="module")
def small(artefacts):
    return artefacts("nequip", "float32", "batch")


@pytest.fixture
def model(small):
    from nequip.integrations.torchsim import NequIPTorchSimCalc

    return NequIPTorchSimCalc.from_compiled_model(compile_path=small.path, device="cpu")


def state(*structures):
    return torch_sim.io.atoms_to_state([*structures], torch.device("cpu"), torch.float64)


def test_a_batch_has_what_ase_has(model, small):
    structures = [bulk("Si", cubic=True), bulk("Si").repeat(2)]
    for atoms in structures:
        atoms.rattle(0.1, seed=0)
    results = model(state(*structures))
    expected = NequIPCalculator(small.potential, radial_tables=False).evaluate(structures)
    assert results["energy"].tolist() == pytest.approx([one["energy"] for one in expected], rel=1e-5)
    stress = results["stress"].numpy()[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    for ours, theirs in zip(stress, expected, strict=True):
        assert ours == pytest.approx(theirs["stress"], abs=1e-6)


def test_molecules_without_a_cell_are_taken(model, small):
    water = molecule("H2O")
    water.cell = [20, 20, 20]
    results = model(state(water))
    atoms = molecule("H2O")
    atoms.calc = NequIPCalculator(small.potential, radial_tables=False)
    assert float(results["energy"]) == pytest.approx(atoms.get_potential_energy(), rel=1e-5)


def test_torchsim_finds_the_model_valid(tmp_path):
    from torch_sim.models.interface import validate_model_outputs

    from nequip.integrations.torchsim import NequIPTorchSimCalc
    from nequip.model.nequip import NequIPConfig
    from nequip.model.registry import build_potential

    shape = {"type_names": ("Si", "Fe"), "num_layers": 1, "num_features": 4, "avg_num_neighbors": 10.0}
    energies = {"per_type_energy_scales": 1.0, "per_type_energy_shifts": 0.0}
    model = NequIPTorchSimCalc(build_potential(NequIPConfig(**shape, **energies)))
    for dtype in (torch.float32, torch.float64):
        validate_model_outputs(model, torch.device("cpu"), dtype)


def test_a_file_for_one_structure_is_refused(artefacts):
    from nequip.integrations.torchsim import NequIPTorchSimCalc

    with pytest.raises(ModelError, match="compile the potential with --target batch"):
        NequIPTorchSimCalc(artefacts("nequip", "float64", "ase").path)
