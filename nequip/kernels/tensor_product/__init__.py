"""The convolution of equivariant message passing, with interchangeable backends."""

from __future__ import annotations

from nequip.errors import KernelError
from nequip.kernels.backend import Backend, choose
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import cpu, reference
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
    _check(x, sh, weight, edges, spec)
    chosen = choose(backend, x.device.type).name
    if chosen == "cpu":
        return cpu.convolve(x, sh, weight, edges, spec)
    return reference.convolve(x, sh, weight, edges, spec)


def _check(x: Tensor, sh: Tensor, weight: Tensor, edges: Edges, spec: TensorProductSpec) -> None:
    num_edges = edges.neighbor.shape[0]
    expected = {
        "x": (x, (x.shape[0], spec.irreps_in.dim)),
        "sh": (sh, (num_edges, spec.irreps_sh.dim)),
        "weight": (weight, (num_edges, spec.num_weights)),
    }
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise KernelError(f"convolve: {name} is {list(value.shape)}, not {list(shape)}, for {spec}.")
        if value.dtype != x.dtype or value.device != x.device:
            raise KernelError(
                f"convolve: {name} is {value.dtype} on {value.device} where x is {x.dtype} on {x.device}."
            )
