"""The norm of equivariant features."""

from __future__ import annotations

import torch

from nequip.nn.norm import RMSNorm
from nequip.o3 import Irreps

IRREPS = Irreps("3x0e+2x1o")


def normalised(x: torch.Tensor) -> torch.Tensor:
    return RMSNorm(IRREPS, torch.float64)(x)


def test_the_mean_over_irreps_of_their_squares_is_one():
    x = normalised(torch.randn(5, IRREPS.dim, dtype=torch.float64))
    squares = ((x[:, :3] ** 2).sum(1) + (x[:, 3:] ** 2).sum(1) / 9) / 2
    torch.testing.assert_close(squares, torch.ones_like(squares))


def test_scaling_changes_nothing():
    x = torch.randn(5, IRREPS.dim, dtype=torch.float64)
    torch.testing.assert_close(normalised(7 * x), normalised(x))


def test_each_channel_has_a_weight():
    layer = RMSNorm(IRREPS, torch.float64)
    x = torch.randn(2, IRREPS.dim, dtype=torch.float64)
    before = layer(x)
    with torch.no_grad():
        layer.weights["1o"][1] = 3.0  # components before channels: columns 4, 6 and 8
    changed = (layer(x) / before).round(decimals=9)
    assert changed[0].tolist() == [1, 1, 1, 1, 3, 1, 3, 1, 3]


def test_zeros_stay_zeros_and_so_do_their_gradients():
    x = torch.zeros(1, IRREPS.dim, dtype=torch.float64, requires_grad=True)
    out = normalised(x)
    out.sum().backward()
    assert out.abs().max() == 0
    assert torch.isfinite(x.grad).all()
