"""The convolution of equivariant message passing, with interchangeable backends."""

from __future__ import annotations

from typing import Literal

from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product.reference import convolve as _reference
from nequip.kernels.tensor_product.spec import Path, TensorProductSpec
from nequip.typing import Float, Tensor

__all__ = ["Backend", "Path", "TensorProductSpec", "convolve"]

Backend = Literal["auto", "reference"]


def convolve(
    x: Float[Tensor, "atom component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    *,
    spec: TensorProductSpec,
    backend: Backend = "auto",
) -> Float[Tensor, "atom component_out"]:
    """Σ over the neighbors of each center of w · C(x[neighbor], Y), along the paths of `spec`.

    Linear in `x`, `sh` and `weight`; differentiable to any order. The maths is in README.md.

    Args:
        x: features of `spec.irreps_in`, each block [component, channel].
        sh: spherical harmonics of `spec.irreps_sh`.
        weight: [path, channel] in the order of `spec.paths`.
        backend: "auto" takes the fastest that runs here; today there is "reference".
    """
    assert x.shape[1] == spec.irreps_in.dim
    assert sh.shape[1] == spec.irreps_sh.dim
    assert weight.shape[1] == spec.num_weights
    return {"auto": _reference, "reference": _reference}[backend](x, sh, weight, edges, spec)
