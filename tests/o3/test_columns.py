"""Split and join are each other's gradients, to any order."""

from __future__ import annotations

import torch

from nequip.o3 import join, split


def test_values_are_those_of_torch():
    x = torch.arange(24.0).view(2, 4, 3)
    for dim, sizes in ((1, [1, 3]), (2, [2, 0, 1])):
        parts = split(x, sizes, dim)
        assert all(torch.equal(a, b) for a, b in zip(parts, x.split(sizes, dim), strict=True))
        assert torch.equal(join(parts, dim), x)


def test_derivatives_to_third_order():
    def swapped(x: torch.Tensor) -> torch.Tensor:
        left, middle, right = split(x, [1, 2, 1])
        return join([right**3 * left, middle.sin() * left]).pow(2).sum()

    def second(x: torch.Tensor) -> torch.Tensor:
        (first,) = torch.autograd.grad(swapped(x), x, create_graph=True)
        return torch.autograd.grad(first.pow(2).sum(), x, create_graph=True)[0]

    x = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(second, x)


def test_a_part_without_gradient_counts_as_zero():
    x = torch.ones(2, 3, requires_grad=True)
    split(x, [1, 2])[0].sum().backward()
    assert x.grad.tolist() == [[1, 0, 0], [1, 0, 0]]
