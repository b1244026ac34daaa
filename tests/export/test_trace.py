"""What is compiled: right at any size, or refused."""

from __future__ import annotations

import operator

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from nequip.errors import ModelError
from nequip.export.fold import fold_constants
from nequip.export.trace import trace

SIZES = torch.randn(5, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)


def traced(function):
    return trace(function, *[(rows,) for rows in SIZES])


def test_a_number_of_rows_that_was_taken_for_a_constant_is_refused():
    with pytest.raises(ModelError, match="computes otherwise at another size"):
        traced(lambda x: (x.new_zeros(len(x)) + x.sum(1),))


def test_other_steps_at_another_size_are_refused():
    with pytest.raises(ModelError, match="another"):
        traced(lambda x: (x.sin().cos() if x.shape[0] > 6 else x.sin(),))


@pytest.mark.parametrize("activation", [torch.nn.functional.silu, torch.nn.functional.gelu, torch.tanh])
def test_derivatives_within_the_function_are_exact(activation):
    weight = torch.randn(3, 3, dtype=torch.float64)

    def derivative(x: torch.Tensor) -> tuple[torch.Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(activation(x @ weight).square().sum(), x)

    x = torch.randn(11, 3, dtype=torch.float64)
    torch.testing.assert_close(traced(derivative)(x), derivative(x))


def test_products_over_three_components_become_sums():
    matrices = torch.randn(3, 3, dtype=torch.float64)
    module = traced(lambda x: (x @ matrices,))
    assert torch.ops.aten.mm.default not in [node.target for node in module.graph.nodes]
    torch.testing.assert_close(module(SIZES[0])[0], SIZES[0] @ matrices)


def folded(function, *inputs):
    module = make_fx(function)(*inputs)
    fold_constants(module)
    return module


def test_what_follows_from_weights_alone_is_computed_once():
    weight = torch.randn(4, 6)

    def function(x: torch.Tensor) -> torch.Tensor:
        first, second = (2 * weight).split([2, 4], dim=1)
        return x @ torch.cat([second, first], dim=1)

    x = torch.randn(3, 4)
    module = folded(function, x)
    calls = [node.target for node in module.graph.nodes if node.op == "call_function"]
    assert calls == [torch.ops.aten.mm.default]
    torch.testing.assert_close(module(x), function(x))


def test_large_results_stay_computations():
    weight = torch.randn(1, 3000)
    module = folded(lambda x: x + (weight.T * weight).sum(), torch.randn(2))
    assert torch.ops.aten.mul.Tensor in [node.target for node in module.graph.nodes]
    assert operator.getitem not in [node.target for node in module.graph.nodes]


def test_random_numbers_are_drawn_in_every_run():
    weight = torch.zeros(3)
    module = folded(lambda x: x + torch.rand_like(weight), torch.zeros(3))
    assert not torch.equal(module(torch.zeros(3)), module(torch.zeros(3)))
