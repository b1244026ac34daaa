"""Tables of radial networks that see covalent radii: one for each pair of elements, side by side in one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nequip.kernels.tensor_product.tabulated import Piece, WeightTable
from nequip.nn.radial_network import RadialNetwork
from nequip.nn.radial_table import START, RadialFunction
from nequip.typing import Float, Int, Tensor

# From the arguments of one pair to those of the next.
SPACING = 2.0


def argument(x: Float[Tensor, " edge"], pair: Int[Tensor, " edge"]) -> Float[Tensor, " edge"]:
    """What the table is asked at for a normalised length and the number of a pair of elements."""
    return x.clamp(START, 1.0) + SPACING * pair


def tabulate_pairs(
    networks: Sequence[RadialNetwork], bases: Sequence[RadialFunction], tolerance: float
) -> float:
    """Put a table in the place of every network, or of none; the largest error.

    Args:
        bases: what the networks see, for each pair of elements as a function of x.

    Raises:
        ModelError: when a table does not reach `tolerance`.
    """
    made = [[network.make_table(basis, tolerance) for basis in bases] for network in networks]
    for network, tables in zip(networks, made, strict=True):
        network.take_table(_joined([table for table, _ in tables]))
    return max(error for tables in made for _, error in tables)


def _joined(tables: Sequence[WeightTable]) -> WeightTable:
    pieces: list[Piece] = []
    count = 0
    for number, table in enumerate(tables):
        pieces += [
            Piece(start + SPACING * number, step, first + count) for start, step, first in table.pieces
        ]
        count += table.knots.shape[0]
    return WeightTable(torch.cat([table.knots for table in tables]), tuple(pieces))
