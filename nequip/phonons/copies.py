"""Many copies of one structure in a graph, as many as a budget of memory allows."""

from __future__ import annotations

import torch

from nequip.data.graph import AtomicGraph, Labels
from nequip.errors import ModelError
from nequip.model.potential import Potential
from nequip.nn.pieces import PIECE
from nequip.typing import Float, Int, Tensor

MEMORY = 2.0  # GB
# What a pass through a graph of derivatives needs at its peak, over what the graph itself holds.
PEAK = 2.0
# On a CPU more edges at once are slower: what they carry leaves the caches (measured on aspirin).
CPU_EDGES = 2048


def repeat(graph: AtomicGraph, copies: int) -> AtomicGraph:
    """`copies` of one structure beside each other: all owned atoms first, then all ghosts."""
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
        batch=torch.cat([number.repeat_interleave(owned), number.repeat_interleave(ghosts)]),
        head=graph.head.repeat(copies),
        labels=_repeat_labels(graph, copies),
    )


def tile(values: Tensor, owned: int, copies: int) -> Tensor:
    """Values of the owned atoms of all copies, then those of all ghosts."""
    shape = [copies] + [1] * (values.dim() - 1)
    return torch.cat([values[:owned].repeat(shape), values[owned:].repeat(shape)])


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


def gradient(
    potential: Potential, graph: AtomicGraph, positions: Float[Tensor, "atom 3"], of: Tensor
) -> Float[Tensor, "row 3"]:
    """∂E/∂x in eV/Å for the energy at `positions`, which follow from `of` = x; differentiable again.

    Whatever the mode of the potential: evaluation mode alone drops the graph of derivatives.
    """
    energy = potential.atomic_energies(graph._replace(positions=positions)).sum()
    return torch.autograd.grad(energy, of, create_graph=True, materialize_grads=True)[0]


def copies_within(memory: float, graph: AtomicGraph, held: int, wanted: int) -> int:
    """How many copies of a structure fit into `memory` (GB), of `wanted`.

    Args:
        held: bytes that the graph of derivatives of one copy holds.

    Raises:
        ModelError: where not even one fits.
    """
    fit = int(memory * 1e9 / (PEAK * max(held, 1)))
    if fit < 1:
        raise ModelError(
            f"second derivatives need {PEAK * held / 1e9:.2g} GB for one copy of the structure, and memory "
            f"is {memory:g} GB: allow more."
        )
    # Beyond a piece models compute anew what they do not keep, which gains nothing here.
    edges = CPU_EDGES if graph.positions.device.type == "cpu" else PIECE
    return max(1, min(fit, wanted, edges // max(graph.num_edges, 1)))


class Held:
    """A context that counts the bytes which a graph of derivatives keeps."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor

    def __enter__(self) -> Held:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)


def owners_of_copies(owner: Int[Tensor, " ghost"], owned: int, copies: int) -> Int[Tensor, " all"]:
    """The owners of the ghosts of all copies."""
    return (owner + owned * torch.arange(copies, device=owner.device)[:, None]).flatten()
