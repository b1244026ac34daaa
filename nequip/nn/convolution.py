"""One message-passing layer of NequIP."""

from __future__ import annotations

from copy import deepcopy

import torch

from nequip.data.graph import AtomicGraph
from nequip.kernels.dispatch import chosen_backend
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import Backend, TensorProductSpec, convolve
from nequip.kernels.tensor_product.tabulated import WeightTable, convolve_tabulated
from nequip.nn.gate import Gate
from nequip.nn.linear import IrrepsLinear, TypeLinear
from nequip.nn.mlp import ScalarMLP
from nequip.nn.pieces import in_pieces
from nequip.nn.radial_table import RadialFunction, tabulate
from nequip.o3 import Irreps
from nequip.typing import Float, Tensor


class InteractionLayer(torch.nn.Module):
    """`h <- gate(Linear₂(Σ_j w(r_ij) · h'_j ⊗ Y(r_ij)) + W_t h)`, `h' = Linear₁(h) / √avg_num_neighbors[t]`.

    The self-connection W_t is left out in the first layer; a layer of scalars has no gates.
    Source: Batzner et al., arXiv:2101.03164, Methods.
    """

    norm: Tensor
    knots: Tensor | None

    def __init__(
        self,
        irreps_in: Irreps,
        irreps_hidden: Irreps,
        irreps_sh: Irreps,
        radial_widths: list[int],
        *,
        num_type_features: int | None,
        avg_num_neighbors: Float[Tensor, " type"],
        dtype: torch.dtype,
        backend: Backend = "auto",
    ):
        super().__init__()
        everything = TensorProductSpec.full(irreps_in, irreps_sh, _any_irrep(irreps_in, irreps_sh)).irreps_out
        reachable = Irreps((mul, irrep) for mul, irrep in irreps_hidden if irrep in everything)
        self.gate = Gate(reachable, everything)
        self.spec = TensorProductSpec.full(irreps_in, irreps_sh, self.gate.irreps_in)
        self.backend: Backend = backend
        self.linear_in = IrrepsLinear(irreps_in, irreps_in, dtype, backend)
        self.radial = ScalarMLP([*radial_widths, self.spec.num_weights], dtype)
        self.linear_out = IrrepsLinear(self.spec.irreps_out, self.gate.irreps_in, dtype, backend)
        self.self_connection = (
            None
            if num_type_features is None
            else TypeLinear(irreps_in, num_type_features, self.gate.irreps_in, dtype, backend)
        )
        self.register_buffer("norm", avg_num_neighbors.rsqrt().to(dtype), persistent=False)
        self.register_buffer("knots", None, persistent=False)
        self.table: WeightTable | None = None
        self.register_load_state_dict_post_hook(_drop_table)
        self.irreps_out = self.gate.irreps_out

    def make_table(self, basis: RadialFunction, tolerance: float) -> tuple[WeightTable, float]:
        """A table of `radial(basis(x))`, and its error; `basis` computes on the CPU in float64.

        Raises:
            ModelError: when no table reaches `tolerance`.
        """
        radial = deepcopy(self.radial).cpu().double()
        return tabulate(lambda x: radial(basis(x)), tolerance)

    def take_table(self, table: WeightTable | None) -> None:
        """Take the weights of edges from a table, until training or other weights; None: from the network."""
        self.table = table
        self.knots = None if table is None else table.knots.to(self.norm)

    def train(self, mode: bool = True) -> InteractionLayer:
        """As of every module; in training the weights of edges come from the network."""
        if mode:
            self.take_table(None)
        return super().train(mode)

    def forward(
        self,
        h: Float[Tensor, "atom component_in"],
        sh: Float[Tensor, "edge component_sh"],
        x: Float[Tensor, " edge"],
        radial: Float[Tensor, "edge bessel"] | None,
        graph: AtomicGraph,
        type_features: Float[Tensor, "type scalar"],
    ) -> Float[Tensor, "atom component_out"]:
        """Features of the next layer.

        Args:
            x: normalised length, which a table is a function of.
            radial: basis times cutoff, which the network is a function of; None where there is a table.
        """
        edges = Edges(graph.center, graph.neighbor, graph.row_ptr, graph.transpose)
        source = self.linear_in(h) * self.norm[graph.types].unsqueeze(1)
        out = self.linear_out(self._sum_messages(source, sh, x, radial, edges))
        if self.self_connection is not None:
            out = out + self.self_connection(h, graph.types, type_features)
        return self.gate(out)

    def _sum_messages(
        self,
        source: Float[Tensor, "atom component_in"],
        sh: Float[Tensor, "edge component_sh"],
        x: Float[Tensor, " edge"],
        radial: Float[Tensor, "edge bessel"] | None,
        edges: Edges,
    ) -> Float[Tensor, "atom component_message"]:
        """With weights from the table where there is one, and in evaluation a piece of them at a time."""
        table, knots = self.table, self.knots

        def tabulated(sh: Tensor, place: Tensor, edges: Edges) -> Tensor:
            assert knots is not None
            return convolve_tabulated(source, sh, place, knots, edges, spec=self.spec, backend=self.backend)

        def exact(sh: Tensor, radial: Tensor, edges: Edges) -> Tensor:
            return convolve(source, sh, self.radial(radial), edges, spec=self.spec, backend=self.backend)

        if table is None:
            assert radial is not None
            if self.training:
                return exact(sh, radial, edges)
            return in_pieces(exact, edges, on_edges=(sh, radial))
        place = table.position(x)
        if chosen_backend(self.backend, source.device.type) == "cpu":
            return tabulated(sh, place, edges)  # which keeps no weights of edges
        return in_pieces(tabulated, edges, on_edges=(sh, place))


def _drop_table(layer: torch.nn.Module, _: object) -> None:
    """A table is of the weights that were there before."""
    assert isinstance(layer, InteractionLayer)
    layer.take_table(None)


def _any_irrep(irreps_in: Irreps, irreps_sh: Irreps) -> Irreps:
    """Every irrep in the product of the two."""
    return Irreps(
        (1, irrep) for _, left in irreps_in for _, right in irreps_sh for irrep in left.product(right)
    )
