"""What a step of training asks of a potential beyond energies and forces."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nequip.data.copies import image_shifts, select, with_ghosts
from nequip.data.graph import AtomicGraph
from nequip.model.potential import Potential
from nequip.model.response import EnergiesInField, detached
from nequip.nn.derivatives import AtomicEnergies, Prediction, differentiate, energy_only
from nequip.nn.waves import Waves
from nequip.train.denoising import Denoising
from nequip.typing import Float, Tensor


class Asked(NamedTuple):
    """Second derivatives, with what is drawn among the labels."""

    products: bool = False  # of the Hessian with directions
    responses: bool = False  # of force constants with waves


NOTHING = Asked()


def predict(
    potential: Potential, graph: AtomicGraph, asked: Asked = NOTHING, denoising: Denoising | None = None
) -> Prediction:
    """The prediction, differentiable where the potential is in training mode.

    Args:
        denoising: what tells the potential of displaced atoms, and predicts the displacements.
    """
    if denoising is None and not any(asked):
        return potential(graph)
    graph = graph._replace(positions=graph.positions.detach().requires_grad_())
    with torch.enable_grad():  # where Lightning validates it is off
        told = _energies(potential, denoising, graph)
        if potential.predict_derivatives or asked.products:
            prediction = differentiate(told, graph, create_graph=potential.training or asked.products)
        else:
            prediction = energy_only(told, graph)
        if asked.products:
            prediction = prediction._replace(products=_products(prediction, graph, potential.training))
        if asked.responses:
            prediction = prediction._replace(responses=_responses(potential, graph, prediction.energy))
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


def _responses(
    potential: Potential, graph: AtomicGraph, energy: Float[Tensor, " graph"]
) -> Float[Tensor, "atom wave 3 2"]:
    """`Φ(q) u` of all crystals with labels at once, each with a wave of its own; zero for the rest.

    The zeros follow from `energy`: a step without crystals has a gradient, of zeros.
    """
    labels = graph.labels
    assert labels.responses is not None
    result = torch.zeros_like(labels.responses) + 0.0 * energy.sum()
    labelled = torch.isfinite(labels.responses).flatten(1).all(1)
    wanted = torch.zeros_like(labels.energy, dtype=torch.bool)
    wanted[graph.batch[labelled]] = True
    if not wanted.any():
        return result
    crystals = select(graph._replace(positions=graph.positions.detach()), wanted)
    q, patterns = crystals.labels.q, crystals.labels.patterns
    assert q is not None
    assert patterns is not None
    unrolled, owner = with_ghosts(crystals)
    shift, of_image = image_shifts(crystals, unrolled, owner), crystals.batch[owner]
    waves = Waves(potential.atomic_energies, unrolled, owner, 2)
    found: list[Tensor] = []
    for of_wave, u in zip(q.unbind(1), torch.view_as_complex(patterns).unbind(1), strict=True):
        angle = 2 * torch.pi * (shift * of_wave[of_image]).sum(1)
        phase = torch.polar(torch.ones_like(angle), angle)
        product = waves.product(u.reshape(1, -1), phase[None], create_graph=potential.training)
        found.append(torch.view_as_real(product).view(-1, 3, 2))
    return result.index_put((wanted[graph.batch],), torch.stack(found, dim=1))
