"""Weights of edges as functions of length: networks of a radial basis, or tables made from them."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch

from nequip.kernels.backend import Backend
from nequip.kernels.dispatch import chosen_backend
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import TensorProductSpec, convolve
from nequip.kernels.tensor_product.tabulated import WeightTable, convolve_tabulated, evaluate
from nequip.nn.mlp import Nonlinearity, ScalarMLP
from nequip.nn.pieces import in_pieces
from nequip.nn.radial_table import RadialFunction, tabulate
from nequip.typing import Float, Tensor


class RadialNetwork(ScalarMLP):
    """A network of the radial basis, which a table can stand in for until training or other weights."""

    knots: Tensor | None

    def __init__(self, widths: Sequence[int], dtype: torch.dtype, nonlinearity: Nonlinearity | None = "silu"):
        super().__init__(widths, dtype, nonlinearity)
        self.register_buffer("knots", None, persistent=False)
        self.table: WeightTable | None = None
        self.register_load_state_dict_post_hook(_drop_table)

    def make_table(
        self, basis: RadialFunction, tolerance: float, kinks: Sequence[float] = ()
    ) -> tuple[WeightTable, float]:
        """A table of `network(basis(x))`, and its error; `basis` computes on the CPU in float64.

        Args:
            kinks: where the second derivative of `basis` jumps.

        Raises:
            ModelError: when no table reaches `tolerance`.
        """
        network = deepcopy(self).cpu().double()
        return tabulate(lambda x: network(basis(x)), tolerance, kinks)

    def take_table(self, table: WeightTable | None) -> None:
        """Take values from a table from now on; None: from the network."""
        self.table = table
        self.knots = None if table is None else table.knots.to(self.weights[0])

    def train(self, mode: bool = True) -> RadialNetwork:
        """As of every module; in training values come from the network."""
        if mode:
            self.take_table(None)
        return super().train(mode)

    def values(
        self, x: Float[Tensor, " edge"], radial: Float[Tensor, "edge basis"] | None
    ) -> Float[Tensor, "edge value"]:
        """The values of each edge; arguments as of `convolve`."""
        if self.table is None:
            assert radial is not None
            return self(radial)
        assert self.knots is not None
        return evaluate(self.knots, self.table.position(x))

    def convolve(
        self,
        source: Float[Tensor, "atom component_in"],
        sh: Float[Tensor, "edge component_sh"],
        x: Float[Tensor, " edge"],
        radial: Float[Tensor, "edge basis"] | None,
        edges: Edges,
        *,
        spec: TensorProductSpec,
        backend: Backend,
    ) -> Float[Tensor, "row component_message"]:
        """Sums of messages with the values as weights, in evaluation a piece of the edges at a time.

        Args:
            x: normalised length, which a table is a function of.
            radial: basis times cutoff, which the network is a function of; None where there is a table.
        """
        table, knots = self.table, self.knots

        def tabulated(sh: Tensor, place: Tensor, edges: Edges) -> Tensor:
            assert knots is not None
            return convolve_tabulated(source, sh, place, knots, edges, spec=spec, backend=backend)

        def exact(sh: Tensor, radial: Tensor, edges: Edges) -> Tensor:
            return convolve(source, sh, self(radial), edges, spec=spec, backend=backend)

        if table is None:
            assert radial is not None
            if self.training:
                return exact(sh, radial, edges)
            return in_pieces(exact, edges, on_edges=(sh, radial))
        place = table.position(x)
        if chosen_backend(backend, source.device.type) == "cpu":
            return tabulated(sh, place, edges)  # which keeps no weights of edges
        return in_pieces(tabulated, edges, on_edges=(sh, place))


def tabulate_all(
    networks: Sequence[RadialNetwork], basis: RadialFunction, tolerance: float, kinks: Sequence[float] = ()
) -> float:
    """Put a table in the place of every network, or of none; the largest error.

    Raises:
        ModelError: when a table does not reach `tolerance`.
    """
    made = [network.make_table(basis, tolerance, kinks) for network in networks]
    for network, (table, _) in zip(networks, made, strict=True):
        network.take_table(table)
    return max(error for _, error in made)


def _drop_table(network: torch.nn.Module, _: object) -> None:
    """A table is of the weights that were there before."""
    assert isinstance(network, RadialNetwork)
    network.take_table(None)
