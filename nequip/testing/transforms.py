"""Changes to structures, graphs and predictions whose outcome symmetry tells in advance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from nequip.data.frame import FloatArray, Frame
from nequip.data.graph import AtomicGraph
from nequip.nn.derivatives import Prediction


def rotate_frame(frame: Frame, matrix: FloatArray) -> Frame:
    """r -> Q r for positions and lattice vectors."""
    return replace(frame, positions=frame.positions @ matrix.T, cell=frame.cell @ matrix.T)


def rotate_prediction(prediction: Prediction, matrix: FloatArray) -> Prediction:
    """F -> Q F, σ -> Q σ Qᵀ, virial alike; energies as they are."""
    q = torch.tensor(matrix)

    def tensor(value: torch.Tensor | None) -> torch.Tensor | None:
        return None if value is None else q @ value @ q.T

    return prediction._replace(
        forces=None if prediction.forces is None else prediction.forces @ q.T,
        stress=tensor(prediction.stress),
        virial=tensor(prediction.virial),
    )


def permute_frame(frame: Frame, seed: int) -> Frame:
    """The atoms in an order that follows from `seed` and their number."""
    order = _order(frame.num_atoms, seed)
    return replace(frame, numbers=frame.numbers[order], positions=frame.positions[order])


def permute_prediction(prediction: Prediction, seed: int) -> Prediction:
    """Forces and atomic energies in the order of the permuted frame."""
    order = _order(len(prediction.atomic_energies), seed)
    forces = None if prediction.forces is None else prediction.forces[order]
    return prediction._replace(atomic_energies=prediction.atomic_energies[order], forces=forces)


def permute_edges(graph: AtomicGraph, seed: int) -> AtomicGraph:
    """The edges of each center in another order."""
    order = np.lexsort([_order(graph.num_edges, seed), graph.center.numpy()])
    neighbor = graph.neighbor[order]
    return graph._replace(
        center=graph.center[order],
        neighbor=neighbor,
        shift=graph.shift[order],
        transpose=torch.argsort(neighbor, stable=True),
    )


def translate_frame(frame: Frame, seed: int) -> Frame:
    """All atoms by one random vector, up to 20 Å along each axis."""
    return displace_frame(frame, np.random.default_rng(seed).uniform(-20, 20, 3))


def move_between_images(frame: Frame, seed: int) -> Frame:
    """Each atom by random lattice vectors of its own, along the periodic directions."""
    images = np.random.default_rng(seed).integers(-3, 4, (frame.num_atoms, 3))
    return displace_frame(frame, (images * frame.pbc) @ frame.cell)


def displace_frame(frame: Frame, displacement: FloatArray) -> Frame:
    """r -> r + d, one d for all atoms or one for each."""
    return replace(frame, positions=frame.positions + displacement)


def strain_frame(frame: Frame, strain: FloatArray) -> Frame:
    """r -> r (1 + ε), cell -> cell (1 + ε)."""
    deformation = np.eye(3) + strain
    return replace(frame, positions=frame.positions @ deformation, cell=frame.cell @ deformation)


def join_frames(first: Frame, second: Frame) -> Frame:
    """The atoms of both, in the cell of the first."""
    return replace(
        first,
        numbers=np.concatenate([first.numbers, second.numbers]),
        positions=np.concatenate([first.positions, second.positions]),
    )


def take_apart(frame: Frame, distance: float) -> Frame:
    """The atoms in a row, `distance` (Å) from one to the next."""
    return replace(frame, positions=np.outer(np.arange(frame.num_atoms), [distance, 0.0, 0.0]))


def repeat_frame(frame: Frame, repeats: Sequence[int]) -> Frame:
    """The supercell; copies follow one another, each in the order of the frame."""
    images = np.array(list(np.ndindex(*repeats))) @ frame.cell
    return replace(
        frame,
        numbers=np.tile(frame.numbers, len(images)),
        positions=(images[:, None] + frame.positions).reshape(-1, 3),
        cell=frame.cell * np.array(repeats)[:, None],
    )


def repeat_prediction(prediction: Prediction, number: int) -> Prediction:
    """What extensivity says of `number` copies: the same stress, and that many times the energy."""
    return Prediction(
        energy=number * prediction.energy,
        atomic_energies=prediction.atomic_energies.repeat(number),
        forces=None if prediction.forces is None else prediction.forces.repeat(number, 1),
        stress=prediction.stress,
        virial=None if prediction.virial is None else number * prediction.virial,
    )


def concatenate_predictions(predictions: Sequence[Prediction]) -> Prediction:
    """Of structures one by one, as of all of them in one graph."""

    def derivative(values: Iterable[torch.Tensor | None]) -> torch.Tensor | None:
        given = [value for value in values if value is not None]
        return torch.cat(given) if given else None

    return Prediction(
        energy=torch.cat([one.energy for one in predictions]),
        atomic_energies=torch.cat([one.atomic_energies for one in predictions]),
        forces=derivative(one.forces for one in predictions),
        stress=derivative(one.stress for one in predictions),
        virial=derivative(one.virial for one in predictions),
    )


def _order(number: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(number)
