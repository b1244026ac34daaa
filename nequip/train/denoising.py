"""Denoising non-equilibrium structures (DeNS): Liao, Smidt, Das, arXiv:2403.09549.

Some atoms of some frames are displaced (nequip.data.draws). The network is told the forces of these atoms
where they were, gives the energy of the frame as it was and the forces of all other atoms, and from its
features the displacements are read off. What it takes for that lives here: no potential knows of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nequip.config.schema import DensConfig
from nequip.data.graph import AtomicGraph
from nequip.errors import ConfigError
from nequip.kernels.backend import Backend
from nequip.model.assembly import fresh_weights
from nequip.model.potential import DTYPES, Potential
from nequip.nn.convolution import InteractionLayer, LayerShape
from nequip.nn.geometry import NormalizedLength, edge_geometry
from nequip.nn.linear import IrrepsLinear
from nequip.nn.per_type import per_type_tensor
from nequip.nn.radial import BesselBasis, Cutoff
from nequip.o3 import Irrep, Irreps, spherical_harmonics
from nequip.typing import Bool, Float, Tensor

# Of the noise head's radial network.
NUM_BESSELS, CUTOFF_POWER, HIDDEN_WIDTH = 8, 6, 64


class Denoising(torch.nn.Module):
    """Tells a potential of the forces on displaced atoms, and reads the displacements off its features.

    Raises:
        ModelError: for an architecture without features of atoms.
        ConfigError: for a potential whose features are scalars alone.
    """

    def __init__(self, potential: Potential, config: DensConfig, seed: int = 0):
        super().__init__()
        first, last = potential.feature_irreps
        parity = _vector_parity(first, last)
        self.dtype = DTYPES[potential.card.dtype]
        self.encodes_forces = config.encode_forces
        with fresh_weights(seed):
            self.encoding = ForceEncoding(first, parity, self.dtype, potential.backend)
            self.head = NoiseHead(potential, last, parity)

    def forward(
        self, features: Float[Tensor, "atom component"], graph: AtomicGraph
    ) -> Float[Tensor, "atom 3"]:
        """Displacement of every atom, in units of σ; it means something for those displaced."""
        return self.head(features, graph).double()

    def encode(self, graph: AtomicGraph) -> Float[Tensor, "atom component_first"]:
        """What the network is told of every atom: nothing of those left alone."""
        told = displaced(graph) if self.encodes_forces else torch.zeros_like(displaced(graph))
        forces = torch.where(told.unsqueeze(1), graph.labels.forces, 0.0)
        return self.encoding(forces.to(self.dtype))


class ForceEncoding(torch.nn.Module):
    """`Linear(|f|/√3 · Y(f̂))`: zero where there is no force."""

    def __init__(self, irreps_out: Irreps, parity: int, dtype: torch.dtype, backend: Backend):
        super().__init__()
        self.l_max = irreps_out.l_max
        self.linear = IrrepsLinear(harmonics(self.l_max, parity), irreps_out, dtype, backend)

    def forward(self, forces: Float[Tensor, "atom 3"]) -> Float[Tensor, "atom component"]:
        """Features of `irreps_out` from forces in eV/Å, which are data."""
        forces = forces.detach()
        size = torch.linalg.vector_norm(forces, dim=1, keepdim=True)
        unit = forces / torch.where(size > 0, size, 1.0)
        return self.linear(size / 3**0.5 * spherical_harmonics(unit, self.l_max))


class NoiseHead(torch.nn.Module):
    """A layer of messages between atoms, and of its features one vector for each."""

    def __init__(self, potential: Potential, irreps_in: Irreps, parity: int):
        super().__init__()
        card, dtype = potential.card, DTYPES[potential.card.dtype]
        vector = Irrep(1, parity)
        channels = irreps_in.mul(vector)
        self.l_max, self.dtype = irreps_in.l_max, dtype
        self.normalized_length = NormalizedLength(potential.cutoffs)
        self.bessel, self.cutoff = BesselBasis(NUM_BESSELS), Cutoff(CUTOFF_POWER)
        shape = LayerShape(
            irreps_in=irreps_in,
            irreps_out=Irreps([(channels, vector)]),
            irreps_sh=harmonics(self.l_max, parity),
            radial_widths=(NUM_BESSELS, HIDDEN_WIDTH),
            radial_nonlinearity="silu",
            num_type_features=0,
            self_connection="element",
            bias=False,
            norm=False,
        )
        neighbors = per_type_tensor(
            card.config.get("avg_num_neighbors"), card.type_names, default=1.0, key="model.avg_num_neighbors"
        )
        self.layer = InteractionLayer(
            shape, avg_num_neighbors=neighbors, dtype=dtype, backend=potential.backend
        )
        out = Irreps([(1, vector)])
        self.linear = IrrepsLinear(self.layer.irreps_out, out, dtype, potential.backend)

    def forward(self, h: Float[Tensor, "atom component"], graph: AtomicGraph) -> Float[Tensor, "atom 3"]:
        """One vector for each atom, without a unit."""
        geometry = edge_geometry(graph)
        x = self.normalized_length(geometry.length, graph)
        radial = (self.bessel(x) * self.cutoff(x).unsqueeze(1)).to(self.dtype)
        sh = spherical_harmonics(geometry.unit, self.l_max).to(self.dtype)
        return self.linear(self.layer(h, sh, x, radial, graph, h.new_zeros(0, 0)))


@dataclass(frozen=True)
class NoiseWeight:
    """Of the errors of displacements in the loss: it falls linearly from the first epoch, or stays."""

    config: DensConfig
    max_epochs: int

    def __call__(self, epoch: int) -> float:
        """The weight at `epoch`, counted from 0."""
        falls = self.config.schedule == "linear"
        return self.config.weight * (max(0.0, 1 - epoch / self.max_epochs) if falls else 1.0)


def displaced(graph: AtomicGraph) -> Bool[Tensor, " atom"]:
    """Which atoms are not where the labels belong to."""
    assert graph.labels.noise is not None
    return ~graph.labels.noise.isnan().any(1)


def supervised(graph: AtomicGraph) -> AtomicGraph:
    """The graph with the labels that predictions can be compared with: no forces of displaced atoms."""
    forces = torch.where(displaced(graph).unsqueeze(1), torch.nan, graph.labels.forces)
    return graph._replace(labels=graph.labels._replace(forces=forces))


def harmonics(l_max: int, parity: int) -> Irreps:
    """Of spherical harmonics, 1o or where a model ignores parity 1e."""
    return Irreps((1, Irrep(degree, parity**degree)) for degree in range(l_max + 1))


def _vector_parity(first: Irreps, last: Irreps) -> int:
    """Of vectors among the features: odd, or even in a model that ignores parity."""
    for parity in (-1, 1):
        if Irrep(1, parity) in first and Irrep(1, parity) in last:
            return parity
    raise ConfigError(
        f"train.dens needs vectors among the features of atoms, which here are {first} behind the first "
        "layer: give the model l_max of 1 or more, and two layers or more."
    )
