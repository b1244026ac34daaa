"""All second derivatives of the energy, exact, by products of the Hessian with unit vectors."""

from __future__ import annotations

import torch

from nequip.data.copies import repeat
from nequip.data.graph import AtomicGraph
from nequip.errors import ModelError
from nequip.model.potential import Potential
from nequip.nn.waves import gradient
from nequip.phonons.copies import MEMORY, Held, copies_within
from nequip.typing import Float, Tensor


def hessian(
    potential: Potential, graph: AtomicGraph, memory: float = MEMORY
) -> Float[Tensor, "coordinate coordinate"]:
    """`H_ab = ∂²E/∂x_a ∂x_b` in eV/Å², the three coordinates of atom 0 first, float64.

    With a cell, atoms move together with all their images: this is the Hessian at Γ. A column is one
    product `H v = ∂(v·∂E/∂x)/∂x`; copies of the structure in one graph give as many columns in a pass,
    and the graph of the first derivatives is made once. The products run on the kernels of the potential.

    Args:
        memory: GB that the derivatives may take; copies are as many as fit.

    Raises:
        ModelError: for several structures in one graph, or memory that does not hold one.
    """
    if graph.num_graphs != 1:
        raise ModelError(f"the graph has {graph.num_graphs} structures: give one at a time to `hessian`.")
    size = graph.positions.numel()
    if size == 0:
        return graph.positions.new_zeros(0, 0)
    with torch.enable_grad(), Held() as held:
        positions = graph.positions.detach().requires_grad_()
        gradient(potential.atomic_energies, graph, positions, positions)
    copies = copies_within(memory, graph, held.bytes, size)
    batch = repeat(graph, copies)
    with torch.enable_grad():
        positions = batch.positions.detach().requires_grad_()
        first = gradient(potential.atomic_energies, batch, positions, positions)
    columns: list[Tensor] = []
    if first.requires_grad:
        for directions in torch.eye(size, dtype=first.dtype, device=first.device).split(copies):
            v = torch.zeros(copies, size, dtype=first.dtype, device=first.device)
            v[: len(directions)] = directions
            (product,) = torch.autograd.grad(
                first, positions, v.view_as(first), retain_graph=True, materialize_grads=True
            )
            columns.append(product.view(copies, size)[: len(directions)])
        return torch.cat(columns)
    return first.new_zeros(size, size)
