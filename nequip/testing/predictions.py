"""What a potential says of structures."""

from __future__ import annotations

from typing import NamedTuple

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.model.potential import Potential
from nequip.nn.derivatives import Prediction
from nequip.typing import Float, Tensor


class Derivatives(NamedTuple):
    """Of the energy, all of them."""

    forces: Float[Tensor, "atom 3"]  # eV/Å
    stress: Float[Tensor, "graph 3 3"]  # eV/Å³
    virial: Float[Tensor, "graph 3 3"]  # eV


def to_graph(potential: Potential, *frames: Frame) -> AtomicGraph:
    """The frames side by side in one graph, with the types and cutoffs of `potential`."""
    mapper = TypeMapper(potential.card.type_names)
    return collate([build_graph(frame, mapper, potential.cutoffs) for frame in frames])


def predict(potential: Potential, *frames: Frame) -> Prediction:
    """What `potential` says of the frames, side by side in one graph."""
    return potential(to_graph(potential, *frames))


def predict_derivatives(potential: Potential, *frames: Frame) -> Derivatives:
    """Forces, stress and virial of the frames, for a potential that must give them."""
    prediction = predict(potential, *frames)
    forces, stress, virial = prediction.forces, prediction.stress, prediction.virial
    assert forces is not None, "forces are missing"
    assert stress is not None, "the stress is missing"
    assert virial is not None, "the virial is missing"
    return Derivatives(forces, stress, virial)
