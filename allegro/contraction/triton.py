"""The contraction and its derivatives by Triton kernels: plain tensors in and out, no autograd.

Every element of every result is written by one program in one order: no atomics, no zeroed buffers.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

from allegro.contraction.spec import ContractionSpec
from allegro.contraction.triton_source import tile_channels, triton_sources
from nequip.kernels.generated_triton import Kernel, Order, dtype_name, launch, load
from nequip.typing import Float, Int, Tensor


class Kernels(NamedTuple):
    """The derivatives by grad, by tensors, and by env and weight."""

    by_grad: Kernel
    by_tensors: Kernel
    by_row: Kernel


@cache
def kernels(spec: ContractionSpec, dtype: torch.dtype, order: Order) -> Kernels:
    """The kernels of one specification; Triton compiles each when it is first launched.

    Raises:
        KernelError: for a dtype other than float32 and float64.
    """
    return Kernels(*map(load, triton_sources(spec, dtype_name(dtype), order)))


def contract(
    tensors: Float[Tensor, "edge component_in"],
    env: Float[Tensor, "row component_env"],
    weight: Float[Tensor, "path channel"],
    row_ptr: Int[Tensor, " row+1"],
    spec: ContractionSpec,
) -> Float[Tensor, "edge component_out"]:
    """`∂Φ/∂grad` of `Φ(grad, tensors, env, weight)`: the contraction."""
    arrays = {"tensors": tensors, "env": env, "weight": weight, "row_ptr": row_ptr}
    return _by_grad(arrays, spec, "first")


def contract_backward(
    grad: Float[Tensor, "edge component_out"],
    tensors: Float[Tensor, "edge component_in"],
    env: Float[Tensor, "row component_env"],
    weight: Float[Tensor, "path channel"],
    row_ptr: Int[Tensor, " row+1"],
    spec: ContractionSpec,
) -> tuple[
    Float[Tensor, "edge component_in"], Float[Tensor, "row component_env"], Float[Tensor, "path channel"]
]:
    """`∂Φ/∂tensors`, `∂Φ/∂env` and `∂Φ/∂weight`."""
    arrays = {"grad": grad, "tensors": tensors, "env": env, "weight": weight, "row_ptr": row_ptr}
    return _by_tensors(arrays, spec, "first"), *_by_row(arrays, spec, "first")


def contract_double_backward(
    a: Float[Tensor, "edge component_in"],
    b: Float[Tensor, "row component_env"],
    c: Float[Tensor, "path channel"],
    grad: Float[Tensor, "edge component_out"],
    tensors: Float[Tensor, "edge component_in"],
    env: Float[Tensor, "row component_env"],
    weight: Float[Tensor, "path channel"],
    row_ptr: Int[Tensor, " row+1"],
    spec: ContractionSpec,
) -> tuple[
    Float[Tensor, "edge component_out"],
    Float[Tensor, "edge component_in"],
    Float[Tensor, "row component_env"],
    Float[Tensor, "path channel"],
]:
    """The Hessian of Φ times (0, a, b, c): by grad, tensors, env and weight."""
    arrays = {"a": a, "b": b, "c": c, "grad": grad, "tensors": tensors, "env": env, "weight": weight}
    arrays["row_ptr"] = row_ptr
    return (
        _by_grad(arrays, spec, "second"),
        _by_tensors(arrays, spec, "second"),
        *_by_row(arrays, spec, "second"),
    )


def _by_grad(arrays: dict[str, Tensor], spec: ContractionSpec, order: Order) -> Tensor:
    tensors = arrays["tensors"]
    out = tensors.new_empty(tensors.shape[0], spec.irreps_out.dim)
    kernel = kernels(spec, tensors.dtype, order).by_grad
    launch(kernel, _grid(kernel, arrays, spec), {**arrays, "out": out})
    return out


def _by_tensors(arrays: dict[str, Tensor], spec: ContractionSpec, order: Order) -> Tensor:
    tensors = arrays["tensors"]
    dtensors = tensors.new_empty(tensors.shape)
    kernel = kernels(spec, tensors.dtype, order).by_tensors
    launch(kernel, _grid(kernel, arrays, spec), {**arrays, "dtensors": dtensors})
    return dtensors


def _by_row(arrays: dict[str, Tensor], spec: ContractionSpec, order: Order) -> tuple[Tensor, Tensor]:
    """What units and rows contribute is summed by torch: no atomics."""
    env, rows = arrays["env"], arrays["env"].shape[0]
    kernel = kernels(spec, env.dtype, order).by_row
    denv = env.new_empty(kernel.units, rows, spec.irreps_env.dim)
    parts = 1 if order == "first" else 2  # a and tensors
    dweight = env.new_empty(parts * rows, len(spec.paths), spec.channels)
    results = {"denv": denv, "dweight": dweight, "num_rows": rows}
    launch(kernel, _grid(kernel, arrays, spec), {**arrays, **results})
    return denv.sum(dim=0), dweight.sum(dim=0)


def _grid(kernel: Kernel, arrays: dict[str, Tensor], spec: ContractionSpec) -> tuple[int, int]:
    """Units of work of each row, one after the other; blocks of channels."""
    return arrays["env"].shape[0] * kernel.units, -(-spec.channels // tile_channels(spec))
