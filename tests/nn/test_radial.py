"""Radial functions at the points where their definition decides."""

from __future__ import annotations

from math import pi, sin

import pytest
import torch

from nequip.nn.radial import BesselBasis, polynomial_cutoff, switching_cutoff


@pytest.mark.parametrize("p", [2, 5, 6])
def test_cutoff_is_one_at_zero_and_smooth_at_one(p):
    x = torch.tensor([1e-9, 1.0 - 1e-12, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    value = polynomial_cutoff(x, p)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    assert value[0].item() == pytest.approx(1, abs=1e-12)
    assert value[2:].tolist() == [0, 0]
    for derivative in (value, slope, curvature):
        assert derivative[1].abs() < 1e-8


def test_the_switch_is_one_up_to_its_onset_and_zero_from_the_cutoff_with_its_slope():
    x = torch.tensor(
        [0.1, 0.8 - 1e-9, 0.8 + 1e-9, 1.0 - 1e-9, 1.0, 1.5], dtype=torch.float64, requires_grad=True
    )
    value = switching_cutoff(x, 0.8)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert value.tolist() == pytest.approx([1, 1, 1, 0, 0, 0], abs=1e-12)
    assert slope.abs().max() < 1e-6


def test_the_switch_is_that_of_xplor():
    """At the middle of the squares it is one half, by symmetry."""
    x = torch.tensor(((0.8**2 + 1) / 2) ** 0.5, dtype=torch.float64)
    assert switching_cutoff(x, 0.8).item() == pytest.approx(0.5, abs=1e-12)


def test_bessel_basis():
    basis = BesselBasis(4)(torch.tensor([0.3], dtype=torch.float64))
    expected = [sin(n * pi * 0.3) / (pi * 0.3) for n in (1, 2, 3, 4)]
    assert basis[0].tolist() == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("trainable", [True, False])
def test_bessel_roots_train_only_on_request(trainable):
    assert bool(list(BesselBasis(3, trainable).parameters())) is trainable
