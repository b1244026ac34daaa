"""Gradients by the weights of a potential against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nequip.model.potential import Potential


def assert_gradient_by_weights(
    potential: Potential, value: Callable[[], torch.Tensor], seed: int = 0
) -> float:
    """The slope of `value` along a random change of all weights, once it is found right to 1e-5."""
    weights = [weight for weight in potential.parameters() if weight.requires_grad]
    generator = torch.Generator().manual_seed(seed)
    step = [torch.randn(w.shape, dtype=w.dtype, generator=generator) for w in weights]
    gradients = torch.autograd.grad(value(), weights, materialize_grads=True)
    slope = sum(float((g * s).sum()) for g, s in zip(gradients, step, strict=True))
    values = []
    for size in (1e-5, -2e-5):
        with torch.no_grad():
            for weight, direction in zip(weights, step, strict=True):
                weight.add_(direction, alpha=size)
        values.append(float(value().detach()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)
    return slope
