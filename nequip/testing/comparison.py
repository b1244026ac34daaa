"""When two results count as the same."""

from __future__ import annotations

import torch

from nequip.data.graph import AtomicGraph
from nequip.nn.derivatives import Prediction
from nequip.typing import Tensor


def assert_close(got: Tensor, want: Tensor, tolerance: float, what: str, *, floor: float = 1.0) -> None:
    """`max |got - want| <= tolerance · max(floor, max |want|)`, and NaN exactly where NaN is wanted.

    Relative to the largest value, since small components are what remains of large ones.
    """
    got, want = got.detach(), want.detach()
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)} instead of {tuple(want.shape)}"
    assert torch.equal(got.isnan(), want.isnan()), f"{what}: NaN in other places:\n{got}\ninstead of\n{want}"
    numbers = ~want.isnan()
    if not numbers.any():
        return
    error = float((got - want)[numbers].abs().max())
    allowed = tolerance * max(floor, float(want[numbers].abs().max()))
    assert error <= allowed, f"{what}: off by {error:.3g}, allowed {allowed:.3g}:\n{got}\ninstead of\n{want}"


def assert_same_prediction(
    got: Prediction, want: Prediction, tolerance: float, *, floor: float = 1.0
) -> None:
    """Every output of `got` is close to that of `want`; a tolerance of 0 asks for the same bits."""
    for name, one, other in zip(Prediction._fields, got, want, strict=True):
        assert (one is None) == (other is None), f"{name}: {one} instead of {other}"
        if one is not None and other is not None:
            assert_close(one, other, tolerance, name, floor=floor)


def assert_same_graph(got: AtomicGraph, want: AtomicGraph) -> None:
    """Bitwise the same tensors, and none of them tracked by autograd."""
    for name, one, other in zip(got._fields, got, want, strict=True):
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            assert torch.equal(one, other), f"{name} has changed"
            assert not one.requires_grad, f"{name} now requires gradients"
