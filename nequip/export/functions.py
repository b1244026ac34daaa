"""The targets of compilation: potentials as pure functions of a list of tensors, derivatives included."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nequip.data.graph import AtomicGraph, Labels
from nequip.export.card import Target
from nequip.kernels.edges import Edges
from nequip.model.potential import Potential
from nequip.nn.derivatives import cell_volume
from nequip.typing import Float, Int, Tensor

TensorFunction = Callable[..., tuple[Tensor, ...]]


def target_function(potential: Potential, target: Target, head: int) -> TensorFunction:
    """What is compiled: inputs and outputs are those of README.md, in their order."""
    energies = _EdgeEnergies(potential, head)

    def lammps(
        edge_vector: Tensor, types: Tensor, center: Tensor, neighbor: Tensor, row_ptr: Tensor
    ) -> tuple[Tensor, ...]:
        return energies.differentiate(edge_vector, types, center, neighbor, row_ptr)

    def ase(
        positions: Tensor,
        types: Tensor,
        center: Tensor,
        neighbor: Tensor,
        row_ptr: Tensor,
        shift: Tensor,
        cell: Tensor,
    ) -> tuple[Tensor, ...]:
        vector = _between(positions, center, neighbor) + shift @ cell.squeeze(0)
        atomic = energies.evaluate(vector, types, center, neighbor, row_ptr)
        energy = atomic[0].sum(0, keepdim=True)
        if len(atomic) == 1:
            return energy, *atomic
        virial = -(vector.transpose(0, 1) @ atomic[1]).unsqueeze(0)
        return _prediction(energy, *atomic, positions, center, neighbor, virial, cell)

    def batch(
        positions: Tensor,
        types: Tensor,
        center: Tensor,
        neighbor: Tensor,
        row_ptr: Tensor,
        shift: Tensor,
        cell: Tensor,
        batch: Tensor,
    ) -> tuple[Tensor, ...]:
        cells = cell.index_select(0, batch.index_select(0, center))
        vector = _between(positions, center, neighbor) + (shift.unsqueeze(2) * cells).sum(1)
        atomic = energies.evaluate(vector, types, center, neighbor, row_ptr)
        energy = atomic[0].new_zeros(cell.shape[0]).index_add(0, batch, atomic[0])
        if len(atomic) == 1:
            return energy, *atomic
        products = (vector.unsqueeze(2) * atomic[1].unsqueeze(1)).flatten(1)
        # first to atoms: sums of many edges onto few structures would wait for each other
        of_atoms = products.new_zeros(positions.shape[0], 9).index_add(0, center, products)
        virial = -products.new_zeros(cell.shape[0], 9).index_add(0, batch, of_atoms).unflatten(1, (3, 3))
        return _prediction(energy, *atomic, positions, center, neighbor, virial, cell)

    functions: dict[Target, TensorFunction] = {"lammps": lammps, "ase": ase, "batch": batch}
    return functions[target]


class _EdgeEnergies:
    """Atomic energies as a function of edge vectors: of a graph whose atoms all lie in the origin of a cell
    of unit vectors, with the vectors as lattice shifts."""

    def __init__(self, potential: Potential, head: int):
        device = next(potential.parameters()).device
        self.potential = potential
        self.cell = torch.eye(3, dtype=torch.float64, device=device).unsqueeze(0)
        self.head = torch.tensor([head], device=device)
        nothing = torch.empty(0, device=device)
        self.labels = Labels(nothing, nothing, nothing, nothing, nothing, nothing)

    def evaluate(self, vector: Tensor, types: Tensor, *edges: Tensor) -> tuple[Tensor, ...]:
        """With the derivatives, unless the potential has none."""
        if self.potential.card.energy_only:
            return (self.potential.atomic_energies(self._graph(vector, types, *edges)),)
        return self.differentiate(vector, types, *edges)

    def differentiate(
        self, vector: Float[Tensor, "edge 3"], types: Int[Tensor, " atom"], *edges: Tensor
    ) -> tuple[Float[Tensor, " owned"], Float[Tensor, "edge 3"]]:
        """Atomic energies, and the gradient of their sum by the edge vectors."""
        with torch.enable_grad():
            vector = vector.detach().requires_grad_()
            energies = self.potential.atomic_energies(self._graph(vector, types, *edges))
            (gradient,) = torch.autograd.grad(energies.sum(), vector, materialize_grads=True)
        return energies.detach(), gradient

    def _graph(
        self, vector: Tensor, types: Tensor, center: Tensor, neighbor: Tensor, row_ptr: Tensor
    ) -> AtomicGraph:
        # Kernels on a GPU gather by neighbor; those for the CPU never look at the permutation.
        transpose = neighbor.argsort(stable=True) if vector.is_cuda else neighbor
        edges = Edges(center, neighbor, row_ptr, transpose)
        return AtomicGraph(
            positions=vector.new_zeros(types.shape[0], 3),
            types=types,
            **edges._asdict(),
            shift=vector,
            cell=self.cell,
            batch=torch.zeros_like(types),
            head=self.head,
            labels=self.labels,
        )


def _between(
    positions: Float[Tensor, "atom 3"], center: Int[Tensor, " edge"], neighbor: Int[Tensor, " edge"]
) -> Float[Tensor, "edge 3"]:
    return positions.index_select(0, neighbor) - positions.index_select(0, center)


def _prediction(
    energy: Tensor,
    atomic_energies: Tensor,
    gradient: Tensor,
    positions: Tensor,
    center: Tensor,
    neighbor: Tensor,
    virial: Tensor,
    cell: Tensor,
) -> tuple[Tensor, ...]:
    """The fields of nequip.nn.derivatives.Prediction, from the gradient by edge vectors."""
    forces = torch.zeros_like(positions).index_add(0, center, gradient).index_add(0, neighbor, -gradient)
    virial = 0.5 * (virial + virial.transpose(1, 2))
    volume = cell_volume(cell)[:, None, None]
    stress = torch.where(volume > 0, -virial / torch.where(volume > 0, volume, 1.0), torch.nan)
    return energy, atomic_energies, forces, stress, virial
