"""Pairs with a learned depth and width for each type; with `noise`, random numbers in every step."""

from __future__ import annotations

import torch

from nequip.data.graph import AtomicGraph
from nequip.model.axes import TYPES, WeightAxes
from nequip.model.card import ModelCard
from nequip.model.potential import DTYPES, Potential
from nequip.model.registry import Architecture, ModelConfig


class TinyPairsConfig(ModelConfig):
    """`fail` makes the potential misbehave, as the tests of bad ends need."""

    name: str = "tiny_pairs"
    noise: float = 0.0
    fail: str = ""


class TinyPairs(Potential):
    """`E_i = shift + Σ_j depth_i depth_j exp(-width r²) (1 - r²/r_max²)³`."""

    def __init__(self, config: TinyPairsConfig):
        super().__init__(
            ModelCard(
                architecture="tiny_pairs",
                config=config.shape(),
                type_names=config.type_names,
                r_max=config.r_max,
                dtype=config.dtype,
                energy_only=config.energy_only,
            )
        )
        self.config = config
        number, dtype = len(config.type_names), DTYPES[config.dtype]
        generator = torch.Generator().manual_seed(config.seed)
        self.depth = torch.nn.Parameter(torch.rand(number, generator=generator, dtype=dtype))
        self.width = torch.nn.Parameter(torch.tensor(0.2, dtype=dtype))
        self.shift = torch.nn.Parameter(torch.zeros(number, dtype=dtype))
        self.register_buffer("scale", torch.tensor(1.0, dtype=dtype))

    @property
    def energy_shifts(self) -> torch.Tensor:
        return self.shift.unsqueeze(0)

    def weight_axes(self) -> WeightAxes:
        return {"depth": TYPES, "shift": TYPES}

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        if self.config.fail == "memory":
            torch.empty(2**60)
        lattice = graph.cell[graph.batch[graph.center]]
        vectors = graph.positions[graph.neighbor] - graph.positions[graph.center]
        vectors = vectors + torch.bmm(graph.shift.unsqueeze(1), lattice).squeeze(1)
        square = vectors.square().sum(-1).to(self.depth.dtype)
        depth = self.depth[graph.types[graph.center]] * self.depth[graph.types[graph.neighbor]]
        if self.config.noise and self.training:
            depth = depth * (1 + self.config.noise * torch.randn_like(depth))
        pairs = (
            depth * torch.exp(-self.width * square) * (1 - square / self.config.r_max**2).clamp(min=0) ** 3
        )
        energies = (self.scale * self.shift[graph.types]).double()
        if self.config.fail == "nan" and 3 in graph.labels.index:
            energies = energies * torch.nan
        return energies.index_add(0, graph.center, pairs.double())


ARCHITECTURE = Architecture("tiny_pairs", TinyPairsConfig, TinyPairs)
