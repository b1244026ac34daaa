"""How an atom hears of its neighbors: messages, and what it keeps of itself."""

from __future__ import annotations

from math import sqrt

import torch

from mace_ext.config import InteractionName, MACEConfig
from mace_ext.readout import GAINS
from nequip.data.graph import AtomicGraph
from nequip.kernels.backend import Backend
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import TensorProductSpec
from nequip.model.potential import DTYPES
from nequip.nn.exchange import exchange
from nequip.nn.linear import ElementLinear, IrrepsLinear
from nequip.nn.radial_network import RadialNetwork
from nequip.o3 import Irrep, Irreps
from nequip.typing import Float, Tensor

# What MACE multiplies the outcome of silu by, over the √2 of ScalarMLP.
SILU_GAIN = GAINS["silu"] / sqrt(2)


class Interaction(torch.nn.Module):
    """`m_i = Linear₂(Σ_j w(r_ij) · Linear₁(h)_j ⊗ Y(r_ij)) / n_i`, and a skip, a matrix for each element.

    By `InteractionName`: n is `avg_num_neighbors`, or `1 + Σ_j ρ(r_ij)` of a density; the skip takes
    messages to messages and nothing is kept, or takes h past them to be added after the product ("residual").
    Source: Batatia et al., arXiv:2206.07697, eq. 8; densities: arXiv:2401.00096.
    """

    norm: Tensor | None

    def __init__(
        self, config: MACEConfig, index: int, irreps_in: Irreps, avg_num_neighbors: Float[Tensor, " type"]
    ):
        super().__init__()
        dtype, messages = DTYPES[config.dtype], config.messages(index)
        name: InteractionName = config.interaction if index > 0 else config.first_interaction
        self.backend: Backend = config.backend
        self.spec = TensorProductSpec.full(irreps_in, spherical_irreps(config.l_max), messages)
        self.linear_up = IrrepsLinear(irreps_in, irreps_in, dtype, config.backend)
        widths = [config.num_basis, *config.radial_mlp, self.spec.num_weights]
        self.radial = RadialNetwork(widths, dtype)
        _start_from_normal(self.radial)
        self.linear = IrrepsLinear(self.spec.irreps_out, messages, dtype, config.backend)
        self.keeps = name in ("residual", "density_residual")
        ends = (irreps_in, config.features(index)) if self.keeps else (messages, messages)
        self.skip = ElementLinear(len(config.type_names), *ends, dtype, config.backend)
        self.density = Density(config.num_basis, dtype) if name in ("density", "density_residual") else None
        norm = None if self.density is not None else (1 / avg_num_neighbors).to(dtype)
        self.register_buffer("norm", norm, persistent=False)

    @property
    def networks(self) -> list[RadialNetwork]:
        """What depends on the length of an edge alone."""
        return [self.radial] if self.density is None else [self.radial, self.density]

    def forward(
        self,
        h: Float[Tensor, "row component_in"],
        sh: Float[Tensor, "edge component_sh"],
        x: Float[Tensor, " edge"],
        radial: Float[Tensor, "edge basis"] | None,
        graph: AtomicGraph,
    ) -> tuple[Float[Tensor, "owned component_message"], Float[Tensor, "owned component_out"] | None]:
        """Messages, and what is to be added after their product.

        Args:
            h: of all atoms, or of those owned.
            x: normalised length, or what else tables are functions of.
            radial: basis times cutoff, which the networks are functions of; None where there are tables.
        """
        edges = Edges(graph.center, graph.neighbor, graph.row_ptr, graph.transpose)
        types = graph.owned_types
        source = exchange(self.linear_up(h), graph.num_atoms)
        heard = self.radial.convolve(source, sh, x, radial, edges, spec=self.spec, backend=self.backend)
        message = self.linear(heard)
        if self.density is None:
            assert self.norm is not None
            message = message * self.norm[types].unsqueeze(1)
        else:
            density = self.density.values(x, radial)
            summed = message.new_zeros(message.shape[0], 1).index_add(0, graph.center, density)
            message = message / (1 + summed)
        if self.keeps:
            return message, self.skip(h[: graph.num_owned], types)
        return self.skip(message, types), None


class Density(RadialNetwork):
    """`ρ = tanh(y²)` of a linear map y of the radial basis: how much of a neighbor there is."""

    def __init__(self, num_basis: int, dtype: torch.dtype):
        super().__init__([num_basis, 1], dtype)
        _start_from_normal(self)

    def forward(self, x: Float[Tensor, "row basis"]) -> Float[Tensor, "row 1"]:
        return torch.tanh(super().forward(x) ** 2)


def spherical_irreps(l_max: int) -> Irreps:
    """Of spherical harmonics: one of each degree, parity (-1)^l."""
    return Irreps((1, Irrep(degree, (-1) ** degree)) for degree in range(l_max + 1))


def _start_from_normal(network: RadialNetwork) -> None:
    """Weights as MACE draws them, in the normalisation of ScalarMLP."""
    with torch.no_grad():
        for index, weight in enumerate(network.weights):
            weight.normal_().mul_(SILU_GAIN if index > 0 else 1.0)
