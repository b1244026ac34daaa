from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk
from small_potentials import MODELS, Springs, graph_of, ice, small_potential

from nequip.errors import ModelError
from nequip.phonons import hessian
from nequip.phonons.bloch import BlochHessian

Q = np.array([[0.1, -0.3, 0.45], [0.5, 0.0, 0.5]])


@pytest.mark.parametrize("name", MODELS)
def test_at_gamma_equals_the_hessian_of_the_cell(name: str):
    potential = small_potential(name)
    graph = graph_of(potential, ice())
    (at_gamma,) = BlochHessian(potential, graph)(np.zeros((1, 3)))
    assert (at_gamma - hessian(potential, graph)).abs().max() < 1e-10


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("turns", [0, 1, 2])
def test_equals_the_waves_of_the_commensurate_supercell(name: str, turns: int):
    """`Φ(q) = Σ_R H_0R exp(2πi q·R)` over the three cells of a supercell, q = turns / 3."""
    potential, atoms = small_potential(name), ice()
    (wave,) = BlochHessian(potential, graph_of(potential, atoms))(np.array([[0.0, turns / 3, 0.0]]))
    size = 3 * len(atoms)
    of_supercell = hessian(potential, graph_of(potential, atoms.repeat((1, 3, 1)))).view(3, size, 3, size)
    phases = torch.exp(torch.tensor(2j * np.pi * turns / 3 * np.arange(3)))
    assert (torch.einsum("r,irj->ij", phases, of_supercell[0].to(phases.dtype)) - wave).abs().max() < 1e-8


@pytest.mark.parametrize("name", MODELS)
def test_is_hermitian(name: str):
    potential = small_potential(name)
    matrices = BlochHessian(potential, graph_of(potential, ice()))(Q)
    assert matrices.imag.abs().max() > 1e-3
    assert (matrices - matrices.mH).abs().max() < 1e-10


def test_opposite_waves_are_conjugate():
    potential = small_potential("nequip")
    response = BlochHessian(potential, graph_of(potential, ice()))
    assert (response(-Q) - response(Q).conj()).abs().max() < 1e-10


def test_does_not_depend_on_how_many_waves_share_a_graph():
    potential = small_potential("nequip")
    graph = graph_of(potential, ice())
    little, much = BlochHessian(potential, graph, memory=4e-3), BlochHessian(potential, graph)
    assert little.pairs < much.pairs
    assert (little(Q) - much(Q)).abs().max() < 1e-12


def test_backends_agree():
    responses = [
        BlochHessian(p, graph_of(p, ice()))(Q)
        for p in (small_potential("nequip", "reference"), small_potential("nequip", "cpu"))
    ]
    assert (responses[0] - responses[1]).abs().max() < 1e-10


def test_cell_larger_than_the_cutoff_has_no_dispersion():
    potential = Springs(1.0, 2.0)
    atoms = bulk("Cu", "sc", a=9.0)
    assert not BlochHessian(potential, graph_of(potential, atoms))(Q).any()


def test_too_little_memory_is_refused():
    potential = small_potential("nequip")
    with pytest.raises(ModelError, match="allow more"):
        BlochHessian(potential, graph_of(potential, ice()), memory=1e-6)
