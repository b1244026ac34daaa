"""One message-passing layer of NequIP."""

from __future__ import annotations

import torch

from nequip.data.graph import AtomicGraph
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import Backend, TensorProductSpec, convolve
from nequip.nn.gate import Gate
from nequip.nn.linear import IrrepsLinear, TypeLinear
from nequip.nn.mlp import ScalarMLP
from nequip.o3 import Irreps
from nequip.typing import Float, Tensor


class InteractionLayer(torch.nn.Module):
    """`h <- gate(Linear₂(Σ_j w(r_ij) · h'_j ⊗ Y(r_ij)) + W_t h)`, `h' = Linear₁(h) / √avg_num_neighbors[t]`.

    The self-connection W_t is left out in the first layer; a layer of scalars has no gates.
    Source: Batzner et al., arXiv:2101.03164, Methods.
    """

    norm: Tensor

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
        self.linear_in = IrrepsLinear(irreps_in, irreps_in, dtype)
        self.radial = ScalarMLP([*radial_widths, self.spec.num_weights], dtype)
        self.linear_out = IrrepsLinear(self.spec.irreps_out, self.gate.irreps_in, dtype)
        self.self_connection = (
            None
            if num_type_features is None
            else TypeLinear(irreps_in, num_type_features, self.gate.irreps_in, dtype)
        )
        self.register_buffer("norm", avg_num_neighbors.rsqrt().to(dtype), persistent=False)
        self.irreps_out = self.gate.irreps_out

    def forward(
        self,
        h: Float[Tensor, "atom component_in"],
        sh: Float[Tensor, "edge component_sh"],
        radial: Float[Tensor, "edge bessel"],
        graph: AtomicGraph,
        type_features: Float[Tensor, "type scalar"],
    ) -> Float[Tensor, "atom component_out"]:
        """Features of the next layer; `radial` is the basis times the cutoff."""
        edges = Edges(graph.center, graph.neighbor, graph.row_ptr, graph.transpose)
        source = self.linear_in(h) * self.norm[graph.types].unsqueeze(1)
        message = convolve(source, sh, self.radial(radial), edges, spec=self.spec, backend=self.backend)
        out = self.linear_out(message)
        if self.self_connection is not None:
            out = out + self.self_connection(h, graph.types, type_features)
        return self.gate(out)


def _any_irrep(irreps_in: Irreps, irreps_sh: Irreps) -> Irreps:
    """Every irrep in the product of the two."""
    return Irreps(
        (1, irrep) for _, left in irreps_in for _, right in irreps_sh for irrep in left.product(right)
    )
