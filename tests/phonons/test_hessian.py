from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from small_potentials import MODELS, Springs, graph_of, ice, small_potential

from nequip.calculators import NequIPCalculator
from nequip.data.graph import collate
from nequip.errors import ModelError
from nequip.phonons import hessian

STRUCTURES = {"molecule": molecule("H2O"), "crystal": ice()}


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", MODELS)
def test_is_symmetric(name: str, structure: str):
    potential = small_potential(name)
    matrix = hessian(potential, graph_of(potential, STRUCTURES[structure]))
    assert matrix.abs().max() > 1e-3
    assert (matrix - matrix.T).abs().max() < 1e-10


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", MODELS)
def test_equals_finite_differences_of_forces(name: str, structure: str):
    potential, step = small_potential(name), 1e-3
    graph = graph_of(potential, STRUCTURES[structure])

    def forces(moved: torch.Tensor) -> torch.Tensor:
        return potential(
            graph._replace(positions=graph.positions + step * moved.view(-1, 3))
        ).forces.flatten()

    rows = [
        (forces(2 * v) - forces(-2 * v) - 8 * (forces(v) - forces(-v))) / (12 * step)
        for v in torch.eye(graph.positions.numel(), dtype=torch.float64)
    ]
    assert (hessian(potential, graph) - torch.stack(rows)).abs().max() < 1e-6


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("backend", ["reference", "compiled", "cpu"])
def test_is_the_same_on_every_backend(backend: str):
    reference, potential = small_potential("nequip", "reference"), small_potential("nequip", backend)
    graph = graph_of(potential, ice())
    assert (hessian(potential, graph) - hessian(reference, graph)).abs().max() < 1e-10


def test_does_not_depend_on_the_memory_it_may_use():
    potential = small_potential("nequip")
    graph = graph_of(potential, molecule("H2O2"))
    little, much = hessian(potential, graph, memory=2e-3), hessian(potential, graph, memory=2.0)
    assert torch.allclose(little, much, atol=1e-12)


def test_too_little_memory_is_refused():
    potential = small_potential("nequip")
    with pytest.raises(ModelError, match="allow more"):
        hessian(potential, graph_of(potential, ice()), memory=1e-6)


def test_several_structures_are_refused():
    potential = Springs(1.0, 2.0)
    graph = graph_of(potential, bulk("Cu", "sc", a=2.0))
    with pytest.raises(ModelError, match="one at a time"):
        hessian(potential, collate([graph, graph]))


def test_moving_everything_changes_no_force():
    potential = small_potential("nequip")
    matrix = hessian(potential, graph_of(potential, ice()))
    assert matrix.view(9, 3, 3).sum(1).abs().max() < 1e-12


def test_atoms_out_of_reach_have_none():
    potential = small_potential("nequip")
    assert not hessian(potential, graph_of(potential, Atoms("H"))).any()


@pytest.mark.parametrize("training", [True, False])
def test_mode_of_the_potential_does_not_matter(training: bool):
    potential = small_potential("nequip").train(training)
    matrix = hessian(potential, graph_of(potential, ice()))
    assert not matrix.requires_grad
    assert potential.training is training


def test_calculator_gives_it():
    potential, atoms = small_potential("nequip"), molecule("H2O")
    matrix = NequIPCalculator(potential).get_hessian(atoms)
    assert np.allclose(matrix, hessian(potential, graph_of(potential, atoms)).numpy(), atol=1e-12)


def test_calculator_in_single_precision_leaves_its_tables_aside():
    potential, atoms = small_potential("nequip"), molecule("H2O")
    matrix = NequIPCalculator(potential, dtype="float32").get_hessian(atoms)
    assert np.allclose(matrix, hessian(potential, graph_of(potential, atoms)).numpy(), atol=1e-5)


def test_calculator_of_a_compiled_potential_refuses(artefacts):
    artefact = artefacts("nequip", "float32", "ase")
    with pytest.raises(ModelError, match="no second derivatives"):
        NequIPCalculator(artefact.path).get_hessian(molecule("H2O"))
