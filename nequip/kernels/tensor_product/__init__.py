"""The convolution of equivariant message passing, with interchangeable backends."""

from __future__ import annotations

from nequip.kernels.backend import Backend
from nequip.kernels.dispatch import chosen_backend
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import compiled, cpu, reference
from nequip.kernels.tensor_product.checks import check_arrays, check_edges
from nequip.kernels.tensor_product.spec import Path, TensorProductSpec
from nequip.typing import Float, Tensor

__all__ = ["Backend", "Path", "TensorProductSpec", "convolve"]


def convolve(
    x: Float[Tensor, "source component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    *,
    spec: TensorProductSpec,
    backend: Backend = "auto",
) -> Float[Tensor, "row component_out"]:
    """Σ over the neighbors of each center of w · C(x[neighbor], Y), along the paths of `spec`.

    Linear in `x`, `sh` and `weight`; differentiable to any order. The maths is in README.md.

    Args:
        x: features of `spec.irreps_in`, each block [component, channel].
        sh: spherical harmonics of `spec.irreps_sh`.
        weight: [path, channel] in the order of `spec.paths`.
        edges: sorted by center; there are as many rows of output as `row_ptr` has.
        backend: "auto" takes the fastest that runs on the device of `x`.

    Raises:
        KernelError: for a backend that cannot run here, and for arrays that do not fit `spec`.
    """
    weights = {"weight": (weight, (edges.neighbor.numel(), spec.num_weights), x.dtype)}
    check_arrays(x, sh, edges, spec, weights)
    chosen = chosen_backend(backend, x.device.type)
    if chosen == "cpu":
        return cpu.convolve(x, sh, weight, edges, spec)
    if chosen == "triton":
        from nequip.kernels.tensor_product import triton_operators  # an import that not every machine can do

        return triton_operators.convolve(x, sh, weight, edges, spec)
    check_edges(edges, x.shape[0])
    if chosen == "compiled":
        return compiled.convolve(x, sh, weight, edges, spec)
    return reference.convolve(x, sh, weight, edges, spec)
