"""One message-passing layer of NequIP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from nequip.data.graph import AtomicGraph
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import Backend, TensorProductSpec
from nequip.nn.exchange import exchange
from nequip.nn.gate import Gate
from nequip.nn.linear import ElementLinear, IrrepsLinear, TypeLinear
from nequip.nn.mlp import Nonlinearity
from nequip.nn.norm import RMSNorm
from nequip.nn.radial_network import RadialNetwork
from nequip.o3 import Irreps
from nequip.typing import Float, Int, Tensor

# What a layer adds of the atom itself: a matrix made from the embedding of its type, one of its type, or one.
SelfConnection = Literal["type_embedding", "element", "shared"]


@dataclass(frozen=True)
class LayerShape:
    """What a layer is made of."""

    irreps_in: Irreps
    irreps_out: Irreps  # those that can be reached
    irreps_sh: Irreps
    radial_widths: tuple[int, ...]  # from the basis to the last hidden layer
    radial_nonlinearity: Nonlinearity
    num_type_features: int
    self_connection: SelfConnection | None
    bias: bool  # in the linear maps, on even scalars
    norm: bool  # before the gate


class InteractionLayer(torch.nn.Module):
    """`h <- gate(Linear₂(Σ_j w(r_ij) · h'_j ⊗ Y(r_ij)) + W_t h)`, `h' = Linear₁(h) / √avg_num_neighbors[t]`.

    The self-connection W_t may be left out; a layer of scalars has no gates; features may be normalised
    before the gate. Source: Batzner et al., arXiv:2101.03164, Methods.
    """

    norm: Tensor

    def __init__(
        self,
        shape: LayerShape,
        *,
        avg_num_neighbors: Float[Tensor, " type"],
        dtype: torch.dtype,
        backend: Backend = "auto",
    ):
        super().__init__()
        irreps_in, irreps_sh = shape.irreps_in, shape.irreps_sh
        everything = TensorProductSpec.full(irreps_in, irreps_sh, _any_irrep(irreps_in, irreps_sh)).irreps_out
        reachable = Irreps((mul, irrep) for mul, irrep in shape.irreps_out if irrep in everything)
        self.gate = Gate(reachable, everything)
        self.spec = TensorProductSpec.full(irreps_in, irreps_sh, self.gate.irreps_in)
        self.backend: Backend = backend
        widths = [*shape.radial_widths, self.spec.num_weights]
        self.linear_in = IrrepsLinear(irreps_in, irreps_in, dtype, backend, bias=shape.bias)
        self.radial = RadialNetwork(widths, dtype, shape.radial_nonlinearity)
        self.linear_out = IrrepsLinear(
            self.spec.irreps_out, self.gate.irreps_in, dtype, backend, bias=shape.bias
        )
        self.self_connection = _self_connection(
            shape, len(avg_num_neighbors), self.gate.irreps_in, dtype, backend
        )
        self.rms_norm = RMSNorm(self.gate.irreps_in, dtype) if shape.norm else None
        self.register_buffer("norm", avg_num_neighbors.rsqrt().to(dtype), persistent=False)
        self.irreps_out = self.gate.irreps_out

    def forward(
        self,
        h: Float[Tensor, "row component_in"],
        sh: Float[Tensor, "edge component_sh"],
        x: Float[Tensor, " edge"],
        radial: Float[Tensor, "edge bessel"] | None,
        graph: AtomicGraph,
        type_features: Float[Tensor, "type scalar"],
    ) -> Float[Tensor, "owned component_out"]:
        """Features of the next layer.

        Args:
            h: of all atoms, as in the first layer, or of those that are centers.
            x: normalised length, which a table is a function of.
            radial: basis times cutoff, which the network is a function of; None where there is a table.
        """
        edges = Edges(graph.center, graph.neighbor, graph.row_ptr, graph.transpose)
        types = graph.types[: h.shape[0]]
        source = exchange(self.linear_in(h) * self.norm[types].unsqueeze(1), graph.num_atoms)
        message = self.radial.convolve(source, sh, x, radial, edges, spec=self.spec, backend=self.backend)
        out = self.linear_out(message)
        if self.self_connection is not None:
            out = out + self._kept(h[: graph.num_owned], types[: graph.num_owned], type_features)
        if self.rms_norm is not None:
            out = self.rms_norm(out)
        return self.gate(out)

    def _kept(
        self,
        h: Float[Tensor, "owned component_in"],
        types: Int[Tensor, " owned"],
        type_features: Float[Tensor, "type scalar"],
    ) -> Float[Tensor, "owned component"]:
        """What the layer adds of the atoms themselves."""
        connection = self.self_connection
        if isinstance(connection, TypeLinear):
            return connection(h, types, type_features)
        if isinstance(connection, ElementLinear):
            return connection(h, types)
        assert connection is not None
        return connection(h)


def _self_connection(
    shape: LayerShape, num_types: int, irreps_out: Irreps, dtype: torch.dtype, backend: Backend
) -> TypeLinear | ElementLinear | IrrepsLinear | None:
    if shape.self_connection == "type_embedding":
        return TypeLinear(shape.irreps_in, shape.num_type_features, irreps_out, dtype, backend)
    if shape.self_connection == "element":
        return ElementLinear(num_types, shape.irreps_in, irreps_out, dtype, backend)
    if shape.self_connection == "shared":
        return IrrepsLinear(shape.irreps_in, irreps_out, dtype, backend)
    return None


def _any_irrep(irreps_in: Irreps, irreps_sh: Irreps) -> Irreps:
    """Every irrep in the product of the two."""
    return Irreps(
        (1, irrep) for _, left in irreps_in for _, right in irreps_sh for irrep in left.product(right)
    )
