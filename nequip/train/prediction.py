"""What a step of training asks of a potential beyond energies and forces."""

from __future__ import annotations

import torch

from nequip.data.graph import AtomicGraph
from nequip.model.potential import Potential
from nequip.model.response import EnergiesInField, detached
from nequip.nn.derivatives import AtomicEnergies, Prediction, differentiate, energy_only
from nequip.train.denoising import Denoising
from nequip.typing import Float, Tensor


def predict(
    potential: Potential, graph: AtomicGraph, *, denoising: Denoising | None = None, products: bool = False
) -> Prediction:
    """The prediction, differentiable where the potential is in training mode.

    Args:
        denoising: what tells the potential of displaced atoms, and predicts the displacements.
        products: of the Hessian with the directions among the labels.
    """
    if denoising is None and not products:
        return potential(graph)
    graph = graph._replace(positions=graph.positions.detach().requires_grad_())
    with torch.enable_grad():  # where Lightning validates it is off
        told = _energies(potential, denoising, graph)
        if potential.predict_derivatives or products:
            prediction = differentiate(told, graph, create_graph=potential.training or products)
        else:
            prediction = energy_only(told, graph)
        if products:
            prediction = prediction._replace(products=_products(prediction, graph, potential.training))
        if isinstance(told, EnergiesInField):
            prediction = told.complete(prediction, graph, born_charges=potential.predict_born_charges)
        if isinstance(told, _Told):
            prediction = prediction._replace(noise=told.noise(graph))
    return prediction if potential.training else detached(prediction)


def _energies(potential: Potential, denoising: Denoising | None, graph: AtomicGraph) -> AtomicEnergies:
    if denoising is not None:
        return _Told(potential, denoising, graph)
    return potential.atomic_energies if potential.field_readout is None else EnergiesInField(potential)


class _Told:
    """Atomic energies with what the network is told of displaced atoms; keeps the features it had."""

    features: Tensor

    def __init__(self, potential: Potential, denoising: Denoising, graph: AtomicGraph):
        self._potential, self._denoising = potential, denoising
        self._added = denoising.encode(graph)

    def __call__(self, graph: AtomicGraph) -> Float[Tensor, " atom"]:
        energies, self.features = self._potential.energies_and_features(graph, self._added)
        return energies

    def noise(self, graph: AtomicGraph) -> Float[Tensor, "atom 3"]:
        """Displacements, from the features of the last call."""
        return self._denoising(self.features, graph)


def _products(
    prediction: Prediction, graph: AtomicGraph, create_graph: bool
) -> Float[Tensor, "atom direction 3"]:
    """`H v = -∂(F·v)/∂x` for all structures at once, since no atom feels those of another."""
    directions = graph.labels.directions
    assert directions is not None
    assert prediction.forces is not None
    columns = [
        torch.autograd.grad(
            prediction.forces,
            graph.positions,
            -direction,
            create_graph=create_graph,
            retain_graph=True,
            materialize_grads=True,
        )[0]
        for direction in directions.unbind(1)
    ]
    return torch.stack(columns, dim=1)
