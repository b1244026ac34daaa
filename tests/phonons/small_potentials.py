"""Potentials that are quick: springs, whose phonons are known in closed form; models of random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.model.card import ModelCard
from nequip.model.potential import Potential
from nequip.model.registry import build_potential, get_architecture
from nequip.nn.geometry import edge_geometry

MODELS = {
    "nequip": {"num_layers": 2, "l_max": 1, "num_features": 4},
    "allegro": {"num_layers": 1, "l_max": 1, "num_scalar_features": 4, "num_tensor_features": 2},
    "mace": {
        "num_layers": 2,
        "l_max": 1,
        "hidden_irreps": "4x0e+4x1o",
        "correlation": 2,
        "radial_mlp": (8,),
        "interaction_shift": 0.0,
    },
}


def small_potential(name: str, backend: str = "auto", **changes: Any) -> Potential:
    """Random weights, float64, for H and O."""
    config = get_architecture(name).config(
        type_names=("H", "O"),
        r_max=3.5,
        avg_num_neighbors=4.0,
        per_type_energy_shifts={"H": 0.0, "O": 0.0},
        per_type_energy_scales={"H": 1.0, "O": 1.0},
        dtype="float64",
        backend=backend,
        **MODELS[name],
        **changes,
    )
    return build_potential(config).eval()


def ice() -> Atoms:
    """A small skewed crystal without symmetry."""
    atoms = Atoms("HOH", [[0.2, 0.1, 0.0], [1.3, 0.2, 0.3], [1.6, 1.4, 0.1]], pbc=True)
    atoms.set_cell([[3.1, 0.0, 0.0], [0.4, 2.9, 0.0], [-0.3, 0.2, 3.3]])
    return atoms


def graph_of(potential: Potential, atoms: Atoms) -> AtomicGraph:
    """As the potential sees it."""
    frame = Frame(atoms.numbers.astype(np.int64), atoms.positions, np.array(atoms.cell), tuple(atoms.pbc))
    return build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)


class Springs(Potential):
    """`E = Σ_pairs k (r - r0)² / 2` over all pairs within the cutoff, which are at r0 at rest."""

    def __init__(
        self, k: float, length: float, type_names: tuple[str, ...] = ("Cu",), r_max: float | None = None
    ):
        card = ModelCard(
            architecture="springs",
            config={},
            type_names=type_names,
            r_max=r_max or 1.1 * length,
            dtype="float64",
        )
        super().__init__(card)
        self.k, self.length = k, length

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        energies = self.k * (edge_geometry(graph).length - self.length) ** 2 / 4  # each pair is two edges
        return energies.new_zeros(graph.num_owned).index_add(0, graph.center, energies)
