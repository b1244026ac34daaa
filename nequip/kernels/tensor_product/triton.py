"""The convolution and its derivatives by Triton kernels: plain tensors in and out, no autograd.

Every element of every result is written by one program in one order: no atomics, no zeroed buffers.
"""

from __future__ import annotations

import linecache
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

import torch

from nequip.errors import KernelError
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.kernels.tensor_product.triton_source import Dtype, KernelSource, Order, triton_sources
from nequip.typing import Float, Int, Tensor

_DTYPES: dict[torch.dtype, Dtype] = {torch.float32: "float32", torch.float64: "float64"}


class Kernel(NamedTuple):
    """A kernel as Triton's `jit` returns it, and the size of the second axis of its grid."""

    function: Any
    units: int


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
    if dtype not in _DTYPES:
        raise KernelError(
            f"backend triton computes in float32 and float64, not in {dtype}: convert the model."
        )
    by_grad, by_x, by_edge, tile_edges = triton_sources(spec, _DTYPES[dtype], order)
    return Kernels(_load(by_grad), _load(by_x), _load(by_edge), tile_edges)


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
    _launch(kernel, rows, {**arrays, "neighbor": edges.neighbor, "row_ptr": edges.row_ptr, "out": out})
    return out


def _by_x(arrays: dict[str, Tensor], edges: Edges, spec: TensorProductSpec, order: Order) -> Tensor:
    x, atoms = arrays["x"], arrays["x"].shape[0]
    dx = x.new_empty(atoms, spec.irreps_in.dim)
    kernel = kernels(spec, x.dtype, order).by_x
    by_neighbor = {"transpose": edges.transpose, "neighbor_ptr": _neighbor_ptr(edges, atoms)}
    _launch(kernel, atoms, {**arrays, "center": edges.center, **by_neighbor, "dx": dx})
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
    _launch(kernel, programs, {**arrays, **indices, **results})
    return dsh.sum(dim=0), dweight


def _neighbor_ptr(edges: Edges, atoms: int) -> Int[Tensor, " atom+1"]:
    """Where in `transpose` the edges to each atom start: `row_ptr` of the transposed graph."""
    neighbor = edges.neighbor[edges.transpose]
    return torch.searchsorted(neighbor, torch.arange(atoms + 1, device=neighbor.device))


def _launch(kernel: Kernel, programs: int, arrays: dict[str, Any]) -> None:
    """Give a kernel those arrays that it names."""
    if kernel.units == 0:  # no paths, hence nothing to write
        return
    chosen = {name: arrays[name] for name in kernel.function.arg_names}
    given = {name: value.contiguous() if name != "num_edges" else value for name, value in chosen.items()}
    with torch.accelerator.device_index(chosen["center" if "center" in chosen else "neighbor"].device.index):
        torch.library.wrap_triton(kernel.function)[(programs, kernel.units)](**given, num_warps=1)


def _load(source: KernelSource) -> Kernel:
    """Run the text as a module. Triton asks `linecache` for the source of its functions."""
    filename = f"<{source.name} {sha256(source.text.encode()).hexdigest()[:16]}>"
    linecache.cache[filename] = (len(source.text), None, source.text.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(source.text, filename, "exec"), namespace)
    return Kernel(namespace[source.name], source.units)
