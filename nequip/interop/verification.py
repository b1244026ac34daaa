"""What can be checked of a converted potential without its own package: its weights, and what it predicts."""

from __future__ import annotations

import numpy as np
import torch
from ase.data import atomic_numbers

from nequip.data.frame import Frame
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import CheckpointError
from nequip.model.card import ModelCard
from nequip.model.potential import Potential

# Of the cutoff: how far apart the atoms of the probe are, so that each sees those beside it and the next.
_SPACING = 0.45
_NUM_ATOMS = 4


def verify(potential: Potential) -> None:
    """Every number of the potential is finite, and so is what it predicts for a few of its elements.

    Raises:
        CheckpointError: naming the weights or the prediction that are not.
        DataError: for names of types that are no elements.
    """
    for name, value in potential.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"its weights {name} are not all finite numbers")
    card, device = potential.card, next(potential.parameters()).device
    graph = build_graph(_probe(card), TypeMapper(card.type_names), potential.cutoffs)
    prediction = potential(graph.to(device))
    for name, value in (("energy", prediction.energy), ("forces", prediction.forces)):
        if value is not None and not torch.isfinite(value).all():
            raise CheckpointError(f"the {name} that it predicts for a chain of atoms is not finite")


def _probe(card: ModelCard) -> Frame:
    """Atoms in a line that is not straight, of the first elements in turn."""
    names = [card.type_names[index % len(card.type_names)] for index in range(_NUM_ATOMS)]
    steps = np.arange(_NUM_ATOMS, dtype=np.float64) * _SPACING * card.r_max
    positions = np.stack([steps, 0.3 * np.sin(steps), 0.2 * np.cos(2 * steps)], axis=1)
    return Frame(np.array([atomic_numbers.get(name, 0) for name in names], dtype=np.int64), positions)
