"""Losses and their derivatives by parameters, for what training must be able to rely on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nequip.model.potential import Potential
from nequip.typing import Float, Tensor


def squared_distance(value: Tensor) -> Float[Tensor, ""]:
    """Mean square distance from random targets, the same at every call."""
    assert value.requires_grad, "no gradient flows back from what the loss is made of"
    target = torch.randn(value.shape, dtype=value.dtype, generator=_generator())
    return (value - target).square().mean()


def perturb_parameters(potential: Potential, size: float = 0.1) -> None:
    """Add noise to every parameter: weights that no seed gives."""
    generator = _generator()
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(size * _random_like(parameter, generator))


def directional_derivative(
    loss: Callable[[], Tensor], potential: Potential, step: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """`∂L/∂θ · v` by autograd, and by a central difference, for one random v over all parameters."""
    generator = _generator()
    parameters = [parameter for parameter in potential.parameters() if parameter.requires_grad]
    directions = [_random_like(parameter, generator) for parameter in parameters]
    gradients = torch.autograd.grad(loss(), parameters, materialize_grads=True)
    by_autograd = torch.stack([(g * v).sum() for g, v in zip(gradients, directions, strict=True)]).sum()
    origin = [parameter.detach().clone() for parameter in parameters]

    def loss_at(multiple: float) -> Tensor:
        with torch.no_grad():
            for parameter, start, direction in zip(parameters, origin, directions, strict=True):
                parameter.copy_(start + multiple * direction)
        return loss().detach()

    ahead, behind, _ = loss_at(step), loss_at(-step), loss_at(0.0)
    return by_autograd, (ahead - behind) / (2 * step)


def _random_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, dtype=tensor.dtype, generator=generator)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
