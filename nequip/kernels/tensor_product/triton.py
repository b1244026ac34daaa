"""The convolution and its derivatives by Triton kernels: plain tensors in and out, no autograd.

Every element of every result is written by one program in one order: no atomics, no zeroed buffers.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from nequip.kernels.edges import Edges
from nequip.kernels.generated_triton import Kernel, Order, dtype_name, launch, load
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.kernels.tensor_product.triton_source import triton_sources
from nequip.typing import Float, Int, Tensor


class Kernels(NamedTuple):
    """The derivatives by grad, by x, and by sh and weight; the last takes `tile_edges` at a time."""

    by_grad: Kernel
    by_x: Kernel
    by_edge: Kernel
    tile_edges: int


@cache
def kernels(spec: TensorProductSpec, dtype: torch.dtype, order: Order) -> Kernels:
    """The kernels of one specification; Triton compiles each when it is first launched.

    Raises:
        KernelError: for a dtype other than float32 and float64.
    """
    by_grad, by_x, by_edge, tile_edges = triton_sources(spec, dtype_name(dtype), order)
    return Kernels(load(by_grad), load(by_x), load(by_edge), tile_edges)


def conv(
    x: Float[Tensor, "source component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    spec: TensorProductSpec,
) -> Float[Tensor, "row component_out"]:
    """`∂Φ/∂grad` of `Φ(grad, x, sh, weight)`: the convolution."""
    arrays = {"x": x, "sh": sh, "weight": weight}
    return _by_grad(arrays, edges, spec, "first")


def conv_backward(
    grad: Float[Tensor, "row component_out"],
    x: Float[Tensor, "source component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    spec: TensorProductSpec,
) -> tuple[
    Float[Tensor, "source component_in"],
    Float[Tensor, "edge component_sh"],
    Float[Tensor, "edge path_channel"],
]:
    """`∂Φ/∂x`, `∂Φ/∂sh` and `∂Φ/∂weight`."""
    arrays = {"grad": grad, "x": x, "sh": sh, "weight": weight}
    return _by_x(arrays, edges, spec, "first"), *_by_edge(arrays, edges, spec, "first")


def conv_double_backward(
    a: Float[Tensor, "source component_in"],
    b: Float[Tensor, "edge component_sh"],
    c: Float[Tensor, "edge path_channel"],
    grad: Float[Tensor, "row component_out"],
    x: Float[Tensor, "source component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    spec: TensorProductSpec,
) -> tuple[
    Float[Tensor, "row component_out"],
    Float[Tensor, "source component_in"],
    Float[Tensor, "edge component_sh"],
    Float[Tensor, "edge path_channel"],
]:
    """The Hessian of Φ times (0, a, b, c): by grad, x, sh and weight."""
    arrays = {"a": a, "b": b, "c": c, "grad": grad, "x": x, "sh": sh, "weight": weight}
    return (
        _by_grad(arrays, edges, spec, "second"),
        _by_x(arrays, edges, spec, "second"),
        *_by_edge(arrays, edges, spec, "second"),
    )


def _by_grad(arrays: dict[str, Tensor], edges: Edges, spec: TensorProductSpec, order: Order) -> Tensor:
    x, rows = arrays["x"], edges.row_ptr.shape[0] - 1
    out = x.new_empty(rows, spec.irreps_out.dim)
    kernel = kernels(spec, x.dtype, order).by_grad
    indices = {"neighbor": edges.neighbor, "row_ptr": edges.row_ptr}
    launch(kernel, (rows, kernel.units), {**arrays, **indices, "out": out})
    return out


def _by_x(arrays: dict[str, Tensor], edges: Edges, spec: TensorProductSpec, order: Order) -> Tensor:
    x, atoms = arrays["x"], arrays["x"].shape[0]
    dx = x.new_empty(atoms, spec.irreps_in.dim)
    kernel = kernels(spec, x.dtype, order).by_x
    by_neighbor = {"transpose": edges.transpose, "neighbor_ptr": _neighbor_ptr(edges, atoms)}
    launch(kernel, (atoms, kernel.units), {**arrays, "center": edges.center, **by_neighbor, "dx": dx})
    return dx


def _by_edge(
    arrays: dict[str, Tensor], edges: Edges, spec: TensorProductSpec, order: Order
) -> tuple[Tensor, Tensor]:
    weight, num_edges = arrays["weight"], arrays["weight"].shape[0]
    kernel, tile_edges = kernels(spec, weight.dtype, order)[2:]
    dweight = weight.new_empty(num_edges, spec.num_weights)
    dsh = weight.new_empty(kernel.units, num_edges, spec.irreps_sh.dim)  # units are summed without atomics
    results = {"dsh": dsh, "dweight": dweight, "num_edges": num_edges}
    indices = {"center": edges.center, "neighbor": edges.neighbor}
    programs = (num_edges + tile_edges - 1) // tile_edges
    launch(kernel, (programs, kernel.units), {**arrays, **indices, **results})
    return dsh.sum(dim=0), dweight


def _neighbor_ptr(edges: Edges, atoms: int) -> Int[Tensor, " atom+1"]:
    """Where in `transpose` the edges to each atom start: `row_ptr` of the transposed graph."""
    neighbor = edges.neighbor[edges.transpose]
    return torch.searchsorted(neighbor, torch.arange(atoms + 1, device=neighbor.device))
