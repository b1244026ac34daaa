"""The convolution of equivariant message passing, with interchangeable backends."""

from __future__ import annotations

import torch

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
    chosen = chosen_backend(backend, x.device.type)
    if chosen == "cpu":
        return cpu.convolve(x, sh, weight, edges, spec)
    return reference.convolve(x, sh, weight, edges, spec)


@torch.compiler.assume_constant_result
def chosen_backend(requested: Backend, device: str) -> Backend:
    """`choose`, as a constant of whatever is compiled: a compiler of graphs cannot look for one of C++."""
    return choose(requested, device).name


def _check(x: Tensor, sh: Tensor, weight: Tensor, edges: Edges, spec: TensorProductSpec) -> None:
    if not spec.paths:
        raise KernelError(f"convolve: {spec} has no paths: keep an irrep of the product.")
    num_edges = edges.neighbor.numel()
    widths = {"x": spec.irreps_in.dim, "sh": spec.irreps_sh.dim, "weight": spec.num_weights}
    for (name, width), value in zip(widths.items(), (x, sh, weight), strict=True):
        rows = value.shape[0] if name == "x" and value.dim() else num_edges
        if value.shape != (rows, width):
            raise KernelError(f"convolve: {name} is {list(value.shape)}, not {[rows, width]}, for {spec}.")
        if value.dtype != x.dtype or value.device != x.device:
            raise KernelError(
                f"convolve: {name} is {value.dtype} on {value.device} where x is {x.dtype} on {x.device}."
            )
    for name, value in edges._asdict().items():
        if value.dim() != 1 or (value.shape[0] != num_edges if name != "row_ptr" else value.shape[0] == 0):
            expected = "[row + 1]" if name == "row_ptr" else [num_edges]
            raise KernelError(f"convolve: {name} is {list(value.shape)}, not {expected}.")
        if value.dtype != torch.int64 or value.device != x.device:
            raise KernelError(
                f"convolve: {name} is {value.dtype} on {value.device}, not torch.int64 on {x.device}."
            )
