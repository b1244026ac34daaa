"""A pair potential that is quick, smooth and exactly differentiable, for tests of what surrounds models."""

from __future__ import annotations

from copy import deepcopy

import torch

from nequip.data.graph import AtomicGraph
from nequip.model.card import ModelCard
from nequip.model.potential import DTYPES, Potential


class ToyPotential(Potential):
    """Morse pairs `ε [(1 - e^{-a (r - r0)})² - 1] (1 - (r / r_max)²)³`, half of each for either atom."""

    def __init__(self, card: ModelCard):
        super().__init__(card)
        self.dtype = DTYPES[card.dtype]
        number = len(card.type_names)
        self.depth = torch.nn.Parameter(torch.linspace(0.3, 0.5, number, dtype=self.dtype))
        self.shift = torch.nn.Parameter(torch.linspace(-1.0, -2.0, number, dtype=self.dtype))

    def to_dtype(self, dtype: str) -> ToyPotential:
        """The same potential, computing in another precision."""
        copy = deepcopy(self).to(DTYPES[dtype])
        copy.dtype, copy.card = DTYPES[dtype], self.card.model_copy(update={"dtype": dtype})
        return copy

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        lattice = graph.cell[graph.batch[graph.center]]
        vectors = (
            graph.positions[graph.neighbor]
            - graph.positions[graph.center]
            + torch.bmm(graph.shift.unsqueeze(1), lattice).squeeze(1)
        )
        length = vectors.norm(dim=-1).to(self.dtype)
        depth = (self.depth[graph.types[graph.center]] + self.depth[graph.types[graph.neighbor]]) / 2
        morse = (1 - torch.exp(-1.5 * (length - 2.6))) ** 2 - 1
        inside = (1 - (length / self.card.r_max) ** 2).clamp(min=0) ** 3
        energies = self.shift[graph.types].double()
        return energies.index_add(0, graph.center, 0.5 * (depth * morse * inside).double())


def toy_potential(
    type_names: tuple[str, ...] = ("Cu",),
    r_max: float = 4.0,
    dtype: str = "float64",
    energy_only: bool = False,
    per_edge_type_cutoff: tuple[tuple[float, ...], ...] | None = None,
) -> ToyPotential:
    """A toy potential with the depths and shifts of its constructor."""
    card = ModelCard(
        architecture="toy",
        config={},
        type_names=type_names,
        r_max=r_max,
        per_edge_type_cutoff=per_edge_type_cutoff,
        dtype=dtype,
        energy_only=energy_only,
    )
    return ToyPotential(card)
