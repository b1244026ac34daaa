"""A potential in an electric field: dipole, polarizability and Born charges.

The energy is of second order in the field, `U(x, E) = U(x) - µ(x)·E - ½ E·α(x)·E`, with µ and α sums over
atoms. So `µ = -∂U/∂E` and `α = -∂²U/∂E²` at zero field are read off without a derivative, and the Born
charges `Z* = -∂²U/∂E∂x = ∂µ/∂x` take one backward pass for each direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from nequip.data.graph import AtomicGraph
from nequip.errors import ModelError
from nequip.nn.derivatives import Prediction, differentiate, energy_only
from nequip.nn.field_readout import FieldReadout, Moments
from nequip.typing import Float, Tensor

if TYPE_CHECKING:
    from nequip.model.potential import Potential


class EnergiesInField:
    """Atomic energies in `graph.field`, zero where there is none; keeps the moments of the last call."""

    moments: Moments

    def __init__(self, potential: Potential):
        self._potential = potential
        self._readout = field_readout_of(potential)

    def __call__(self, graph: AtomicGraph) -> Float[Tensor, " owned"]:
        energies, features = self._potential.energies_and_features(graph)
        dipole, polarizability = self._readout(features, graph.owned_types)
        if graph.field is not None:
            field = graph.field[graph.batch[: graph.num_owned]]
            induced = (polarizability @ field.unsqueeze(2)).squeeze(2)
            energies = energies - ((dipole + 0.5 * induced) * field).sum(1)
            dipole = dipole + induced  # -∂U/∂E in the field
        self.moments = Moments(dipole, polarizability)
        return energies

    def complete(self, prediction: Prediction, graph: AtomicGraph, *, born_charges: bool) -> Prediction:
        """The prediction, made of energies of this, with what the field adds.

        Args:
            graph: whose positions require a gradient where Born charges are asked for.
            born_charges: they are differentiable again.
        """
        owner = graph.batch[: graph.num_owned]
        dipole, polarizability = (
            moment.new_zeros(graph.num_graphs, *moment.shape[1:]).index_add(0, owner, moment)
            for moment in self.moments
        )
        charges = gradients(dipole, graph.positions) if born_charges else None
        return prediction._replace(dipole=dipole, polarizability=polarizability, born_charges=charges)


def field_readout_of(potential: Potential) -> FieldReadout:
    """Raises ModelError for a potential that knows no electric field."""
    if potential.field_readout is None:
        raise ModelError(
            "this potential knows no electric field, so it has no dipole, polarizability or Born charges: "
            "train one with model.electric_field=true."
        )
    return potential.field_readout


def predict_in_field(potential: Potential, graph: AtomicGraph) -> Prediction:
    """What `Potential.forward` gives of a potential that knows the field."""
    energies, training, charges = (
        EnergiesInField(potential),
        potential.training,
        potential.predict_born_charges,
    )
    if charges:
        graph = graph._replace(positions=graph.positions.detach().requires_grad_())
    with torch.set_grad_enabled(training or charges):
        if potential.predict_derivatives:
            prediction = differentiate(energies, graph, create_graph=training or charges)
        else:
            prediction = energy_only(energies, graph)
        prediction = energies.complete(prediction, graph, born_charges=charges)
    return prediction if training else detached(prediction)


def detached(prediction: Prediction) -> Prediction:
    """Without the graph of its derivatives."""
    values = {name: None if value is None else value.detach() for name, value in prediction._asdict().items()}
    return prediction._replace(**values)


def raman_tensors(potential: Potential, graph: AtomicGraph) -> Float[Tensor, "atom 3 3 3"]:
    """`∂α_ij/∂x_k` in e·Å/V as [atom, i, j, k], exact by six backward passes; float64.

    Raises:
        ModelError: for a potential that knows no electric field.
    """
    energies = EnergiesInField(potential)
    rows, columns = torch.triu_indices(3, 3).unbind(0)
    with torch.enable_grad():
        graph = graph._replace(positions=graph.positions.detach().requires_grad_())
        energies(graph)
        owner, moments = graph.batch[: graph.num_owned], energies.moments.polarizability[:, rows, columns]
        total = moments.new_zeros(graph.num_graphs, 6).index_add(0, owner, moments)
        found = gradients(total, graph.positions).detach()
    tensors = found.new_zeros(graph.num_atoms, 3, 3, 3)
    tensors[:, rows, columns] = found
    tensors[:, columns, rows] = found
    return tensors


def gradients(
    values: Float[Tensor, "graph component"], positions: Float[Tensor, "atom 3"]
) -> Float[Tensor, "atom component 3"]:
    """∂values_i/∂x_j, [atom, i, j], of all structures at once, since no atom feels those of another."""
    return torch.stack(
        [
            torch.autograd.grad(
                component.sum(), positions, create_graph=True, retain_graph=True, materialize_grads=True
            )[0]
            for component in values.unbind(1)
        ],
        dim=1,
    )
