"""Structures of many kinds, to compare a compiled potential with the one it was made from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import Cutoffs, TypeMapper, build_graph

SPACING = 2.3  # Å between neighbors


def comparison_graphs(type_names: Sequence[str], cutoffs: Cutoffs) -> dict[str, AtomicGraph]:
    """By what they are: an atom alone, atoms out of reach, a cluster, and crystals small and larger."""
    mapper = TypeMapper(type_names)
    numbers = np.array([atomic_numbers[name] for name in type_names], dtype=np.int64)
    draw = np.random.default_rng(0)

    def lattice(side: int) -> np.ndarray:
        grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)
        return SPACING * grid + draw.uniform(-0.3, 0.3, (side**3, 3))

    def graph(positions: np.ndarray, cell: np.ndarray | None = None) -> AtomicGraph:
        types = draw.choice(numbers, len(positions))
        if cell is None:
            return build_graph(Frame(types, positions), mapper, cutoffs)
        return build_graph(Frame(types, positions, cell, (True, True, True)), mapper, cutoffs)

    skewed = np.array([[1.0, 0.0, 0.0], [0.2, 1.0, 0.0], [-0.1, 0.3, 1.0]])
    apart = 2 * cutoffs.r_max
    return {
        "one atom": graph(np.zeros((1, 3))),
        "two atoms out of reach": graph(np.array([[0.0, 0.0, 0.0], [apart, 0.0, 0.0]])),
        "a cluster of 27 atoms": graph(lattice(3)),
        "a crystal of 8 atoms": graph(lattice(2) @ skewed, 2 * SPACING * skewed),
        "a crystal of 125 atoms": graph(lattice(5) @ skewed, 5 * SPACING * skewed),
    }
