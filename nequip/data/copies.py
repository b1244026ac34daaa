"""Graphs made of others: copies of one, parts of one, and one whose images are atoms of their own."""

from __future__ import annotations

from typing import Any

import torch

from nequip.data.graph import AtomicGraph, Labels
from nequip.typing import Bool, Float, Int, Tensor

# Labels that each structure has one of; the others belong to atoms.
_OF_GRAPHS = ("energy", "stress", "weight", "group", "index", "q", "dipole", "polarizability")


def repeat(graph: AtomicGraph, copies: int) -> AtomicGraph:
    """`copies` of a graph beside each other: all owned atoms first, then all ghosts."""
    owned, ghosts = graph.num_owned, graph.num_atoms - graph.num_owned
    number = torch.arange(copies, device=graph.center.device)
    neighbor, of_ghost = graph.neighbor, graph.neighbor >= owned
    step = torch.where(of_ghost, ghosts, owned)
    first = neighbor + torch.where(of_ghost, (copies - 1) * owned, 0)
    neighbors = (first + number[:, None] * step).flatten()
    rows = graph.row_ptr[:-1] + number[:, None] * graph.num_edges
    return AtomicGraph(
        positions=tile(graph.positions, owned, copies),
        types=tile(graph.types, owned, copies),
        center=(graph.center + number[:, None] * owned).flatten(),
        neighbor=neighbors,
        row_ptr=torch.cat([rows.flatten(), rows.new_tensor([copies * graph.num_edges])]),
        transpose=neighbors.argsort(stable=True),
        shift=graph.shift.repeat(copies, 1),
        cell=graph.cell.repeat(copies, 1, 1),
        batch=tile(graph.batch, owned, copies) + graph.num_graphs * _copy_of(number, owned, ghosts),
        head=graph.head.repeat(copies),
        labels=_repeat_labels(graph, copies),
    )


def tile(values: Tensor, owned: int, copies: int) -> Tensor:
    """Values of the owned atoms of all copies, then those of all ghosts."""
    shape = [copies] + [1] * (values.dim() - 1)
    return torch.cat([values[:owned].repeat(shape), values[owned:].repeat(shape)])


def _copy_of(number: Int[Tensor, " copy"], owned: int, ghosts: int) -> Int[Tensor, " all"]:
    """Which copy each atom belongs to."""
    return torch.cat([number.repeat_interleave(owned), number.repeat_interleave(ghosts)])


def _repeat_labels(graph: AtomicGraph, copies: int) -> Labels:
    labels = graph.labels
    return Labels(
        energy=labels.energy.repeat(copies),
        forces=tile(labels.forces, graph.num_owned, copies),
        stress=labels.stress.repeat(copies, 1, 1),
        weight=labels.weight.repeat(copies),
        group=labels.group.repeat(copies),
        index=labels.index.repeat(copies),
    )


def owners_of_copies(owner: Int[Tensor, " ghost"], owned: int, copies: int) -> Int[Tensor, " all"]:
    """The owners of the ghosts of all copies."""
    return (owner + owned * torch.arange(copies, device=owner.device)[:, None]).flatten()


def with_ghosts(graph: AtomicGraph) -> tuple[AtomicGraph, Int[Tensor, " ghost"]]:
    """The same structures with a ghost for each image of an atom that is a neighbor, and whose they are."""
    across = (graph.shift != 0).any(dim=1)
    image = torch.cat([graph.neighbor.unsqueeze(1).double(), graph.shift], dim=1)[across]
    images, which = image.unique(dim=0, return_inverse=True)
    owner = images[:, 0].long()
    neighbor = graph.neighbor.clone()
    neighbor[across] = graph.num_atoms + which
    offset = torch.bmm(images[:, None, 1:], graph.cell[graph.batch[owner]]).squeeze(1)
    unfolded = graph._replace(
        positions=torch.cat([graph.positions, graph.positions[owner] + offset]),
        types=torch.cat([graph.types, graph.types[owner]]),
        neighbor=neighbor,
        transpose=neighbor.argsort(stable=True),
        shift=torch.zeros_like(graph.shift),
        cell=torch.zeros_like(graph.cell),
        batch=torch.cat([graph.batch, graph.batch[owner]]),
    )
    return unfolded, owner


def image_shifts(
    graph: AtomicGraph, unrolled: AtomicGraph, owner: Int[Tensor, " ghost"]
) -> Float[Tensor, "ghost 3"]:
    """How many lattice vectors each ghost of `with_ghosts` is away from its owner."""
    offset = unrolled.positions[graph.num_atoms :] - graph.positions[owner]
    # of a cell with fewer vectors than three the others are zero
    return torch.round(offset.unsqueeze(1) @ torch.linalg.pinv(graph.cell[graph.batch[owner]])).squeeze(1)


def select(graph: AtomicGraph, keep: Bool[Tensor, " graph"]) -> AtomicGraph:
    """Some of the structures of a graph without ghosts, in their order, with the labels that are drawn."""
    atoms = keep[graph.batch]
    edges = atoms[graph.center]
    number = atoms.cumsum(0) - 1
    neighbor = number[graph.neighbor[edges]]
    row_ptr = graph.row_ptr.new_zeros(int(atoms.sum()) + 1)
    torch.cumsum(graph.row_ptr.diff()[atoms], 0, out=row_ptr[1:])
    of_labels: dict[str, Any] = {
        name: None if value is None else value[keep if name in _OF_GRAPHS else atoms]
        for name, value in graph.labels._asdict().items()
    }
    return AtomicGraph(
        positions=graph.positions[atoms],
        types=graph.types[atoms],
        center=number[graph.center[edges]],
        neighbor=neighbor,
        row_ptr=row_ptr,
        transpose=neighbor.argsort(stable=True),
        shift=graph.shift[edges],
        cell=graph.cell[keep],
        batch=(keep.cumsum(0) - 1)[graph.batch[atoms]],
        head=graph.head[keep],
        labels=Labels(**of_labels),
        field=None if graph.field is None else graph.field[keep],
    )
