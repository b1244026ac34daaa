from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from slopes import assert_gradient_by_weights

from nequip.data.copies import image_shifts, select, with_ghosts
from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.model.potential import Potential
from nequip.model.registry import build_potential, get_architecture
from nequip.nn.waves import Waves

SHAPES = {
    "nequip": {"num_layers": 2, "l_max": 1, "num_features": 4},
    "allegro": {"num_layers": 1, "l_max": 1, "num_scalar_features": 4, "num_tensor_features": 2},
    "mace": {"l_max": 1, "hidden_irreps": "4x0e+4x1o", "correlation": 2, "interaction_shift": 0.0},
}
CELLS = [2.7, 3.1]


def potential_of(name: str, backend: str = "cpu") -> Potential:
    config = get_architecture(name).config(
        type_names=("H", "O"),
        r_max=3.5,
        avg_num_neighbors=4.0,
        per_type_energy_shifts=None,
        per_type_energy_scales=None,
        dtype="float64",
        backend=backend,
        **SHAPES[name],
    )
    return build_potential(config)


def crystal(potential: Potential, number: int) -> AtomicGraph:
    atoms = Atoms("HO"[: 1 + number], [[0.1, 0, 0], [1.2, 0.9, 0.4]][: 1 + number], pbc=True)
    atoms.set_cell(np.eye(3) * CELLS[number] + 0.2 * np.eye(3, k=1))
    frame = Frame(atoms.numbers.astype(np.int64), atoms.positions, np.array(atoms.cell), (True,) * 3)
    return build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)


def product(
    potential: Potential, graph: AtomicGraph, u: torch.Tensor, q: torch.Tensor, create_graph: bool = False
) -> torch.Tensor:
    """Of one wave of all structures of `graph`, each with its own q [graph, 3]."""
    unrolled, owner = with_ghosts(graph)
    angle = 2 * torch.pi * (image_shifts(graph, unrolled, owner) * q[graph.batch[owner]]).sum(1)
    waves = Waves(potential.atomic_energies, unrolled, owner, 2)
    return waves.product(u[None], torch.polar(torch.ones_like(angle), angle)[None], create_graph)[0]


def random_wave(size: int) -> torch.Tensor:
    return torch.randn(size, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SHAPES)
def test_crystals_of_one_batch_have_waves_of_their_own(name):
    potential = potential_of(name).eval()
    crystals = [crystal(potential, number) for number in (0, 1)]
    u, q = random_wave(9), torch.tensor([[0.1, 0.2, -0.3], [0.5, 0.0, 0.25]]).double()
    together = product(potential, collate(crystals), u, q)
    alone = [product(potential, crystals[0], u[:3], q[:1]), product(potential, crystals[1], u[3:], q[1:])]
    assert float(together.abs().min()) > 1e-6
    assert torch.allclose(together, torch.cat(alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("name", SHAPES)
def test_weights_learn_from_waves_through_every_layer(name, backend):
    """∂/∂θ of a product along waves against differences, along a random direction of all weights."""
    potential = potential_of(name, backend).train()
    graph = collate([crystal(potential, number) for number in (0, 1)])
    u, q = random_wave(9), torch.tensor([[0.1, 0.2, -0.3], [0.5, 0.0, 0.25]]).double()
    other = random_wave(9).flip(0)

    def value() -> torch.Tensor:
        """`Re u₂† Φ(q) u₁`."""
        return (other.conj() * product(potential, graph, u, q, True)).sum().real

    assert abs(assert_gradient_by_weights(potential, value, seed=1)) > 1e-3


def test_opposite_waves_of_conjugate_patterns_are_conjugate():
    potential = potential_of("nequip").eval()
    graph, u, q = crystal(potential, 1), random_wave(6), torch.tensor([[0.1, 0.2, -0.3]]).double()
    opposite = product(potential, graph, u.conj().resolve_conj(), -q)
    assert torch.allclose(opposite, product(potential, graph, u, q).conj(), rtol=0, atol=1e-12)


def in_field(graph: AtomicGraph, number: int) -> AtomicGraph:
    field = torch.full((1, 3), 0.1 * number)
    labels = graph.labels._replace(dipole=field + 1, polarizability=torch.eye(3)[None] * number)
    return graph._replace(field=field, labels=labels)


def test_structures_are_taken_out_of_a_batch_as_they_were():
    potential = potential_of("nequip").eval()
    crystals = [in_field(crystal(potential, number), number) for number in (0, 1, 0)]
    found = select(collate(crystals), torch.tensor([False, True, True]))
    wanted = collate(crystals[1:])
    for name, value in wanted._asdict().items():
        if name != "labels":
            assert torch.equal(getattr(found, name), value), name
    for name in ("dipole", "polarizability"):
        assert torch.equal(getattr(found.labels, name), getattr(wanted.labels, name)), name
    assert torch.equal(found.labels.forces.isnan(), wanted.labels.forces.isnan())
