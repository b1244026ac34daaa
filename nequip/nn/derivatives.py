"""Forces, stress and virial from atomic energies by one strain trick."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from nequip.data.graph import AtomicGraph
from nequip.typing import Float, Tensor

AtomicEnergies = Callable[[AtomicGraph], Tensor]


class Prediction(NamedTuple):
    """What a potential says of a batch; the derivatives are None where they were not asked for."""

    energy: Float[Tensor, " graph"]  # eV
    atomic_energies: Float[Tensor, " atom"]  # eV
    forces: Float[Tensor, "atom 3"] | None  # eV/Å
    stress: Float[Tensor, "graph 3 3"] | None  # eV/Å³, positive under tension; NaN without a cell
    virial: Float[Tensor, "graph 3 3"] | None  # eV
    products: Float[Tensor, "atom direction 3"] | None = None  # of the Hessian with directions, eV/Å²
    responses: Float[Tensor, "atom wave 3 2"] | None = None  # of force constants with waves, eV/Å²
    noise: Float[Tensor, "atom 3"] | None = None  # displacements of atoms, in units of their deviation
    dipole: Float[Tensor, "graph 3"] | None = None  # -∂E/∂field, e·Å
    polarizability: Float[Tensor, "graph 3 3"] | None = None  # -∂²E/∂field², e·Å²/V
    born_charges: Float[Tensor, "atom 3 3"] | None = None  # ∂dipole_i/∂x_j as [atom, i, j], e


def differentiate(atomic_energies: AtomicEnergies, graph: AtomicGraph, *, create_graph: bool) -> Prediction:
    """Differentiate the total energy by positions and by a symmetric strain ε of each structure.

    `r -> r (1 + ε)`, `cell -> cell (1 + ε)`, at ε = 0:
    `F = -∂E/∂r`, `virial = -∂E/∂ε`, `stress = (∂E/∂ε) / |V|`.

    Args:
        create_graph: keep the graph of the derivatives, for training or for higher derivatives.
    """
    with torch.enable_grad():
        positions = graph.positions
        if not positions.requires_grad:
            positions = positions.detach().requires_grad_()
        strain = torch.zeros_like(graph.cell, requires_grad=True)
        symmetric = 0.5 * (strain + strain.transpose(-1, -2))
        strained = positions + torch.bmm(positions.unsqueeze(1), symmetric[graph.batch]).squeeze(1)
        cell = graph.cell + torch.bmm(graph.cell, symmetric)
        energies = atomic_energies(graph._replace(positions=strained, cell=cell))
        energy = _sum_by_graph(energies, graph)
        gradient, strain_gradient = torch.autograd.grad(
            energy.sum(), [positions, strain], create_graph=create_graph, materialize_grads=True
        )
    if not create_graph:
        energy, energies = energy.detach(), energies.detach()
    volume = cell_volume(graph.cell)
    has_cell = volume > 0
    safe = torch.where(has_cell, volume, 1.0)[:, None, None]
    stress = torch.where(has_cell[:, None, None], strain_gradient / safe, torch.nan)
    return Prediction(energy, energies, -gradient, stress, -strain_gradient)


def energy_only(atomic_energies: AtomicEnergies, graph: AtomicGraph) -> Prediction:
    """Energies without their derivatives."""
    energies = atomic_energies(graph)
    return Prediction(_sum_by_graph(energies, graph), energies, None, None, None)


def _sum_by_graph(energies: Float[Tensor, " owned"], graph: AtomicGraph) -> Float[Tensor, " graph"]:
    return energies.new_zeros(graph.num_graphs).index_add(0, graph.batch[: graph.num_owned], energies)


def cell_volume(cell: Float[Tensor, "graph 3 3"]) -> Float[Tensor, " graph"]:
    """|a · (b × c)|: a determinant call breaks ahead-of-time export."""
    return (cell[:, 0] * torch.linalg.cross(cell[:, 1], cell[:, 2])).sum(-1).abs()
