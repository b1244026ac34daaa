"""The convolution in plain PyTorch, compiled by torch.compile. See README.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch

from nequip.kernels.compiled_functions import compile_function
from nequip.kernels.edges import Edges
from nequip.kernels.operators import Functions, define
from nequip.kernels.tensor_product.autograd import SIGNATURE, parse, register
from nequip.kernels.tensor_product.layout import PathLayout, path_layouts
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.kernels.trilinear import hessian_of
from nequip.typing import Float, Int, Tensor


def convolve(
    x: Float[Tensor, "source component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    spec: TensorProductSpec,
) -> Float[Tensor, "row component_out"]:
    """The sum, through the operator; see nequip.kernels.tensor_product.convolve."""
    prepare()
    return torch.ops.nequip.conv_compiled(x, sh, weight, *edges, spec.text)


# ---- The operators ------------------------------------------------------------------------------------


@torch.compiler.assume_constant_result
def prepare() -> None:
    """Define the operators, once."""
    _define_operators()


@cache
def _define_operators() -> None:
    define("conv_compiled", SIGNATURE, Functions(_value, _gradient, hessian_of(_value, _gradient)))
    register("conv_compiled")


def _value(x: Tensor, sh: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    center, neighbor, row_ptr, _, spec = rest
    functions = _functions(spec, x.dtype, x.device)
    sums = functions.value(x, sh, weight, center, neighbor, row_ptr[1:])
    return torch.cat([part.flatten(1) for part in sums], 1).index_select(1, functions.columns.argsort())


def _gradient(
    grad: Tensor, x: Tensor, sh: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    center, neighbor, _, _, spec = rest
    functions = _functions(spec, x.dtype, x.device)
    grads = grad.index_select(1, functions.columns).split([k * u for k, u in functions.shapes], dim=1)
    parts = [part.unflatten(1, shape) for part, shape in zip(grads, functions.shapes, strict=True)]
    return functions.gradient(x, sh, weight, center, neighbor, *parts)


# ---- What is compiled ---------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Paths from one block of features, side by side: the components k of all are one axis."""

    block: int
    dim_in: int
    num_paths: int
    channels: int
    coupling: Float[Tensor, "sh k_i"]  # C_ijk as [j, k x i]
    path_of: Int[Tensor, " k"]


class _Functions(NamedTuple):
    """The sum and its gradient for one specification. Between arrays of outputs are those of each group."""

    value: Callable[..., list[Tensor]]
    gradient: Callable[..., tuple[Tensor, Tensor, Tensor]]
    shapes: list[tuple[int, int]]  # components and channels of each group's output
    columns: Int[Tensor, " component_out"]  # where they lie in the whole output


@cache
def _functions(text: str, dtype: torch.dtype, device: torch.device) -> _Functions:
    spec = parse(text)
    layouts = path_layouts(spec)
    with device:
        groups = [
            _group(spec, block, list(members), dtype)
            for block, members in groupby(layouts, lambda layout: layout.path.block_in)
        ]
        columns = torch.cat([_columns(spec, layout) for layout in layouts])
    widths = [mul * irrep.dim for mul, irrep in spec.irreps_in]
    label = sha256(f"{text} {dtype} {device}".encode()).hexdigest()[:16]
    return _Functions(
        compile_function(_value_of(groups, widths), f"conv_{label}", device),
        compile_function(_gradient_of(groups, widths), f"conv_backward_{label}", device),
        [(group.path_of.numel(), group.channels) for group in groups],
        columns,
    )


def _group(spec: TensorProductSpec, block: int, members: list[PathLayout], dtype: torch.dtype) -> _Group:
    dims = [layout.path.irrep_out.dim for layout in members]
    dim_in = members[0].dim_in
    coupling = np.zeros((spec.irreps_sh.dim, sum(dims), dim_in))
    for layout, first in zip(members, np.cumsum([0, *dims]), strict=False):
        for i, j, k, value in layout.entries:
            coupling[layout.harmonic + j, first + k, i] = value
    path_of = np.repeat(np.arange(len(dims)), dims)
    tables = torch.tensor(coupling, dtype=dtype).flatten(1), torch.tensor(path_of)
    return _Group(block, dim_in, len(dims), spec.channels(members[0].path), *tables)


def _columns(spec: TensorProductSpec, layout: PathLayout) -> Int[Tensor, " component_channel"]:
    components = layout.out + layout.stride * torch.arange(layout.path.irrep_out.dim)
    return (components.unsqueeze(1) + torch.arange(spec.channels(layout.path))).flatten()


def _value_of(groups: list[_Group], widths: list[int]) -> Callable[..., Any]:
    def value(
        x: Tensor, sh: Tensor, weight: Tensor, center: Tensor, neighbor: Tensor, rows: Tensor
    ) -> list[Tensor]:
        sums: list[Tensor] = []
        for matrix, feature, w in _factors(groups, widths, x, sh, weight, neighbor):
            message = _turn(matrix, feature) * w
            zeros = x.new_zeros(rows.shape[0], *message.shape[1:])
            sums.append(zeros.index_add(0, center, message))
        return sums

    return value


def _gradient_of(groups: list[_Group], widths: list[int]) -> Callable[..., Any]:
    def gradient(
        x: Tensor, sh: Tensor, weight: Tensor, center: Tensor, neighbor: Tensor, *grads: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dx = [torch.zeros_like(part) for part in x.split(widths, dim=1)]
        dsh = torch.zeros_like(sh)
        dweight: list[Tensor] = []
        factors = _factors(groups, widths, x, sh, weight, neighbor)
        for group, grad, (matrix, feature, w) in zip(groups, grads, factors, strict=True):
            g = grad.index_select(0, center)
            gw = g * w
            by_feature = (matrix.unsqueeze(3) * gw.unsqueeze(2)).sum(1).flatten(1)
            dx[group.block] = dx[group.block].index_add(0, neighbor, by_feature)
            by_matrix = (gw.unsqueeze(2) * feature.unsqueeze(1)).sum(3).flatten(1)
            dsh = dsh + by_matrix @ group.coupling.t()
            zeros = w.new_zeros(w.shape[0], group.num_paths, group.channels)
            by_path = zeros.index_add(1, group.path_of, _turn(matrix, feature) * g)
            dweight.append(by_path.flatten(1))
        return torch.cat(dx, 1), dsh, torch.cat(dweight, 1)

    return gradient


def _factors(
    groups: list[_Group], widths: list[int], x: Tensor, sh: Tensor, weight: Tensor, neighbor: Tensor
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """`M[edge, k, i] = Σ_j C_ijk Y_j`, features [edge, i, u] and weights [edge, k, u] of each group."""
    features = x.split(widths, dim=1)
    weights = weight.split([group.num_paths * group.channels for group in groups], dim=1)
    return [
        (
            (sh @ group.coupling).unflatten(1, (-1, group.dim_in)),
            features[group.block].unflatten(1, (group.dim_in, -1)).index_select(0, neighbor),
            w.unflatten(1, (group.num_paths, -1)).index_select(1, group.path_of),
        )
        for group, w in zip(groups, weights, strict=True)
    ]


def _turn(matrix: Float[Tensor, "edge k i"], feature: Float[Tensor, "edge i u"]) -> Float[Tensor, "edge k u"]:
    """A product and a sum, which fuse with what comes before and after; `torch.bmm` would not."""
    return (matrix.unsqueeze(3) * feature.unsqueeze(1)).sum(2)
