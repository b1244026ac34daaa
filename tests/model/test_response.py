"""Dipole, polarizability and Born charges: what the energy in a field says they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from field_potentials import FIELD_SHAPES
from field_potentials import field_potential as model

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import ModelError
from nequip.export.functions import target_function
from nequip.model.checkpoint import load
from nequip.model.potential import Potential
from nequip.model.rebuild import rebuild
from nequip.model.response import raman_tensors
from nequip.nn.derivatives import Prediction
from nequip.o3 import Irreps

MODELS = pytest.mark.parametrize("name", FIELD_SHAPES)
STEP = 1e-4  # V/Å or Å


def crooked(index: int = 0) -> Atoms:
    """Four atoms without symmetry."""
    rng = np.random.default_rng(index)
    positions = np.array([[0, 0, 0], [1.0, 0.2, 0.1], [-0.3, 0.9, -0.2], [0.4, 0.7, 1.6]])
    return Atoms("OHHO", positions + rng.normal(0, 0.1, (4, 3)))


def graph_of(atoms: Atoms) -> AtomicGraph:
    frame = Frame(atoms.numbers, atoms.positions, np.array(atoms.cell), tuple(atoms.pbc))
    return build_graph(frame, TypeMapper(("H", "O")), model("nequip").cutoffs)


def charged(potential: Potential, graph: AtomicGraph) -> Prediction:
    potential.predict_born_charges = True
    return potential(graph)


def in_field(graph: AtomicGraph, field: np.ndarray) -> AtomicGraph:
    return graph._replace(field=torch.tensor(field, dtype=torch.float64).expand(graph.num_graphs, 3))


def moved(graph: AtomicGraph, atom: int, axis: int, by: float) -> AtomicGraph:
    positions = graph.positions.clone()
    positions[atom, axis] += by
    return graph._replace(positions=positions)


@MODELS
def test_energy_without_a_field_is_bit_for_bit_that_of_the_plain_model(name):
    graph, plain, other = graph_of(crooked()), model(name, electric_field=False), model(name)
    assert plain.field_readout is None
    assert "electric_field" not in plain.card.config
    for field in (None, torch.zeros(1, 3, dtype=torch.float64)):
        for value, same in zip(plain(graph)[:5], other(graph._replace(field=field))[:5], strict=True):
            assert torch.equal(value.nan_to_num(), same.nan_to_num())


@MODELS
def test_dipole_and_polarizability_are_derivatives_of_the_energy(name):
    potential, graph = model(name), graph_of(crooked())
    found = potential(graph)
    assert float(found.dipole.norm()) > 1e-3
    assert float(found.polarizability.norm()) > 1e-4
    energies = [[potential(in_field(graph, s * STEP * e)).energy.item() for s in (1, -1)] for e in np.eye(3)]
    slope = [-(up - down) / (2 * STEP) for up, down in energies]
    assert np.allclose(found.dipole[0], slope, rtol=0, atol=1e-9)
    dipoles = [[potential(in_field(graph, s * STEP * e)).dipole[0] for s in (1, -1)] for e in np.eye(3)]
    second = [((up - down) / (2 * STEP)).numpy() for up, down in dipoles]
    assert np.allclose(found.polarizability[0], second, rtol=0, atol=1e-9)
    assert torch.equal(found.polarizability[0], found.polarizability[0].T)


@MODELS
def test_born_charges_and_raman_tensors_are_those_of_finite_differences(name):
    potential, graph = model(name), graph_of(crooked())
    charges, tensors = charged(potential, graph).born_charges, raman_tensors(potential, graph)
    assert float(charges.abs().max()) > 1e-3
    for atom, axis in ((0, 0), (1, 2), (3, 1)):
        up, down = (potential(moved(graph, atom, axis, s * STEP)) for s in (1, -1))
        assert torch.allclose(charges[atom, :, axis], (up.dipole - down.dipole)[0] / (2 * STEP), atol=1e-6)
        change = (up.polarizability - down.polarizability)[0] / (2 * STEP)
        assert torch.allclose(tensors[atom, :, :, axis], change, rtol=0, atol=1e-6)


@MODELS
def test_forces_change_in_a_field_by_born_charges(name):
    potential, graph = model(name), graph_of(crooked())
    charges = charged(potential, graph).born_charges
    for axis in range(3):
        up, down = (potential(in_field(graph, s * STEP * np.eye(3)[axis])).forces for s in (1, -1))
        assert torch.allclose((up - down) / (2 * STEP), charges[:, axis], rtol=0, atol=1e-8)


@MODELS
@pytest.mark.parametrize("periodic", [False, True], ids=["molecule", "crystal"])
def test_born_charges_add_up_to_zero(name, periodic):
    atoms = crooked()
    if periodic:
        atoms.set_cell([[3.3, 0, 0], [0.4, 3.1, 0], [0.2, 0.3, 4.0]])
        atoms.pbc = True
    charges = charged(model(name), graph_of(atoms)).born_charges
    assert float(charges.abs().max()) > 1e-3
    assert float(charges.sum(0).abs().max()) < 1e-12


@MODELS
@pytest.mark.parametrize("parity", [True, False])
@pytest.mark.parametrize("determinant", [1, -1], ids=["rotation", "reflection"])
def test_all_turn_and_mirror_with_the_structure(name, parity, determinant):
    potential = model(name, **({} if name == "mace" else {"parity": parity}))
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    q *= np.sign(np.linalg.det(q)) * determinant
    atoms = crooked()
    turned = atoms.copy()
    turned.positions = atoms.positions @ q.T
    found, other = charged(potential, graph_of(atoms)), charged(potential, graph_of(turned))
    q = torch.tensor(q)
    assert torch.allclose(found.dipole @ q.T, other.dipole, rtol=0, atol=1e-11)
    assert torch.allclose(q @ found.polarizability @ q.T, other.polarizability, rtol=0, atol=1e-11)
    assert torch.allclose(q @ found.born_charges @ q.T, other.born_charges, rtol=0, atol=1e-11)


@MODELS
def test_structures_of_a_batch_do_not_see_each_other(name):
    potential, graphs = model(name), [graph_of(crooked(index)) for index in range(3)]
    together = charged(potential, collate(graphs))
    for index, graph in enumerate(graphs):
        alone = charged(potential, graph)
        assert torch.allclose(together.dipole[index], alone.dipole[0], rtol=0, atol=1e-12)
        assert torch.allclose(together.polarizability[index], alone.polarizability[0], rtol=0, atol=1e-12)
        rows = slice(4 * index, 4 * index + 4)
        assert torch.allclose(together.born_charges[rows], alone.born_charges, rtol=0, atol=1e-12)


@MODELS
def test_a_file_brings_the_readout_back(name, tmp_path):
    potential, graph = model(name), graph_of(crooked())
    potential.save(tmp_path / "model.nequip")
    loaded = load(tmp_path / "model.nequip")
    assert torch.equal(loaded(graph).dipole, potential(graph).dipole)
    assert torch.equal(loaded(graph).polarizability, potential(graph).polarizability)


@MODELS
def test_new_types_leave_moments_of_known_ones(name):
    potential, graph = model(name), graph_of(crooked())
    wider = rebuild(potential, ("C", "H", "O"))
    found = wider(graph._replace(types=graph.types + 1))
    assert torch.allclose(found.dipole, potential(graph).dipole, rtol=0, atol=1e-12)
    assert torch.allclose(found.polarizability, potential(graph).polarizability, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("nequip", {"l_max": 1}),
        ("nequip", {"num_layers": 1}),
        ("nequip", {"parity": "ignored"}),
        ("allegro", {"l_max": 1}),
        ("mace", {"hidden_irreps": "4x0e+4x1o"}),
        ("mace", {"num_layers": 1}),
    ],
)
def test_models_without_vectors_or_quadrupoles_are_refused(name, changes):
    with pytest.raises(ModelError, match=r"needs features 0e, 1o and 2e .* without .*l_max of 2.*parity"):
        model(name, **changes)


def test_the_plain_model_has_no_raman_tensors():
    with pytest.raises(ModelError, match="knows no electric field"):
        raman_tensors(model("nequip", electric_field=False), graph_of(crooked()))


@MODELS
def test_what_is_compiled_is_the_model_without_a_field(name):
    graph = graph_of(crooked())
    inputs = (
        *(graph.positions, graph.types, graph.center, graph.neighbor),
        *(graph.row_ptr, graph.shift, graph.cell),
    )
    plain = target_function(model(name, electric_field=False), "ase", 0)(*inputs)
    other = target_function(model(name), "ase", 0)(*inputs)
    assert len(plain) == len(other)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(plain, other, strict=True))


def test_the_readout_learns_an_isotropic_volume_for_each_type():
    readout = model("nequip").field_readout
    assert readout.isotropic.shape == (2,)
    assert readout.hidden.spec.irreps_out == Irreps("48x0e+16x1o+16x2e")
