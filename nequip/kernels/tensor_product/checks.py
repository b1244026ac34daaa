"""Whether arrays fit a convolution, before a kernel sees them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from nequip.errors import KernelError
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.typing import Tensor

Expected = Mapping[str, tuple[Tensor, tuple[int | str, ...], torch.dtype]]  # a word where any size will do


def check_arrays(x: Tensor, sh: Tensor, edges: Edges, spec: TensorProductSpec, weights: Expected) -> None:
    """Shapes, dtypes and devices; `weights` is what the weights of the edges are made of.

    Raises:
        KernelError: naming the first array that does not fit.
    """
    if not spec.paths:
        raise KernelError(f"convolve: {spec} has no paths: keep an irrep of the product.")
    if not x.dtype.is_floating_point:
        raise KernelError(f"convolve: x is {x.dtype}, not float32 or float64: convert it.")
    index, num_edges = torch.int64, edges.neighbor.numel()
    expected: Expected = {
        "x": (x, ("source", spec.irreps_in.dim), x.dtype),
        "neighbor": (edges.neighbor, (num_edges,), index),
        "center": (edges.center, (num_edges,), index),
        "row_ptr": (edges.row_ptr, ("row + 1",), index),
        "transpose": (edges.transpose, (num_edges,), index),
        "sh": (sh, (num_edges, spec.irreps_sh.dim), x.dtype),
        **weights,
    }
    for name, (value, shape, dtype) in expected.items():
        sizes = list(value.shape)
        if len(sizes) != len(shape) or any(
            n != size for n, size in zip(shape, sizes, strict=True) if not isinstance(n, str)
        ):
            wanted = ", ".join(str(n) for n in shape)
            raise KernelError(f"convolve: {name} is {sizes}, not [{wanted}], for {spec}.")
        if value.dtype != dtype or value.device != x.device:
            raise KernelError(
                f"convolve: {name} is {value.dtype} on {value.device}, not {dtype} on {x.device}, as x is."
            )
    if edges.row_ptr.shape[0] == 0:
        raise KernelError("convolve: row_ptr is [0], but it has one entry more than there are rows.")


def check_edges(edges: Edges, num_sources: int) -> None:
    """The order of the edges and the range of their indices.

    Only numbers on the CPU are looked at: a GPU would have to be waited for, and a trace has none.

    Raises:
        KernelError: naming the first index that is wrong.
    """
    row_ptr, num_edges = edges.row_ptr, edges.center.shape[0]
    if row_ptr.device.type != "cpu" or torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
        return
    first, last, counts = int(row_ptr[0]), int(row_ptr[-1]), row_ptr.diff()
    if first != 0 or last != num_edges or bool((counts < 0).any()):
        raise KernelError(
            f"convolve: row_ptr runs from {first} to {last} or descends between, but must ascend from 0 to "
            f"{num_edges}, the number of edges."
        )
    rows = torch.repeat_interleave(counts)
    if not torch.equal(edges.center, rows):
        edge = int((edges.center != rows).nonzero()[0])
        raise KernelError(
            f"convolve: center[{edge}] is {int(edges.center[edge])} where row_ptr has row {int(rows[edge])}: "
            "edges must be sorted by center."
        )
    outside = ((edges.neighbor < 0) | (edges.neighbor >= num_sources)).nonzero()
    if outside.numel():
        edge = int(outside[0])
        raise KernelError(
            f"convolve: neighbor[{edge}] is {int(edges.neighbor[edge])}, but x has {num_sources} rows."
        )
