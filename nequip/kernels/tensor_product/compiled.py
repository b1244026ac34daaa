"""The convolution in plain PyTorch, compiled by torch.compile. See README.md.

torch.compile differentiates what it compiles once and no further. So it is given functions without
autograd, the sum and its gradient written out, and operators are made of them, as of those in C++.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import groupby
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch

from nequip.kernels.edges import Edges
from nequip.kernels.native.compiler import find_compiler
from nequip.kernels.tensor_product import autograd
from nequip.kernels.tensor_product.autograd import parse
from nequip.kernels.tensor_product.layout import PathLayout, path_layouts
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.typing import Float, Int, Tensor

Function = Callable[..., Any]


def convolve(
    x: Float[Tensor, "source component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    spec: TensorProductSpec,
) -> Float[Tensor, "row component_out"]:
    """The sum, through the operator; see nequip.kernels.tensor_product.convolve."""
    _define_operators()
    return torch.ops.nequip.conv_compiled(x, sh, weight, *edges, spec.text)


# ---- The operators ------------------------------------------------------------------------------------


@torch.compiler.assume_constant_result
@cache
def _define_operators() -> None:
    name = "nequip::conv_compiled"
    given = "Tensor x, Tensor sh, Tensor weight, Tensor center, Tensor neighbor, Tensor row_ptr, Tensor transpose"
    along = "Tensor along_x, Tensor along_sh, Tensor along_weight"
    operators: dict[str, tuple[str, Function]] = {
        "": (f"({given}, str spec) -> Tensor", _value),
        "_backward": (f"(Tensor grad, {given}, str spec) -> (Tensor, Tensor, Tensor)", _gradient),
        "_double_backward": (
            f"({along}, Tensor grad, {given}, str spec) -> (Tensor, Tensor, Tensor, Tensor)",
            _hessian,
        ),
    }
    for suffix, (schema, function) in operators.items():
        torch.library.define(f"{name}{suffix}", schema)
        torch.library.impl(f"{name}{suffix}", ("cpu", "cuda"), function)
    autograd.register("conv_compiled", prepare_second=lambda spec, dtype: None)


def _value(*arguments: Any) -> Tensor:
    return _run("value", *arguments)


def _gradient(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _run("gradient", *arguments)


def _hessian(
    a: Tensor, b: Tensor, c: Tensor, grad: Tensor, x: Tensor, sh: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradient of `Φ(g, a, y, w) + Φ(g, x, b, w) + Φ(g, x, y, c)`, by the functions that there are.

    A third one, fused, would take longer to compile than both.
    """
    points = (a, sh, weight), (x, b, weight), (x, sh, c)
    first, second, third = (_gradient(grad, *point, *rest) for point in points)
    values = [_value(*point, *rest) for point in points]
    return sum(values[1:], values[0]), second[0] + third[0], first[1] + third[1], first[2] + second[2]


def _run(name: str, *arguments: Any) -> Any:
    """A function, compiled at its first call. Sizes 0 and 1, which would be compiled anew, run plainly."""
    *tensors, spec = arguments
    inputs = [value.detach().contiguous() for value in tensors]
    plain, compiled = _functions(spec, inputs[0].dtype, inputs[0].device)[name]
    with torch.no_grad():
        if min(value.shape[0] for value in inputs) < 2:
            return plain(*inputs)
        for value in inputs:
            torch._dynamo.mark_dynamic(value, 0)
            torch._dynamo.mark_static(value, list(range(1, value.dim())))
        return compiled(*inputs)


@cache
def _functions(spec: str, dtype: torch.dtype, device: torch.device) -> dict[str, tuple[Function, Function]]:
    plain = _plain_functions(parse(spec), dtype, device)
    return {name: (function, function) for name, function in plain.items()}


def _compile(function: Function, device: torch.device) -> Function:
    options: dict[str, Any] = {
        # No intermediate array is worth its memory: compute it again for every reader.
        "realize_reads_threshold": 1000,
        "realize_acc_reads_threshold": 1000,
        "realize_opcount_threshold": 10_000,
    }
    if device.type == "cpu":
        # On several threads sums would be atomic, element by element: ten times slower on two than on one.
        options |= {"cpp.threads": 1, "cpp.cxx": (find_compiler().path,)}
    # Results are kept by code object, at most 8 to each: every specification has its own.
    code = function.__code__.replace()
    own = FunctionType(code, function.__globals__, function.__name__, None, function.__closure__)
    return torch.compile(own, fullgraph=True, options=options)


# ---- What is compiled ---------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Paths from one block of features, side by side: the components k of all are one axis."""

    block: int
    dim_in: int
    num_paths: int
    columns: int  # of the group's weights
    coupling: Float[Tensor, "sh k_and_i"]  # C_ijk as [j, k x i]
    path_of: Int[Tensor, " k"]


def _plain_functions(spec: TensorProductSpec, dtype: torch.dtype, device: torch.device) -> dict[str, Function]:
    layouts = path_layouts(spec)
    groups = [
        _group(spec, index, list(members), dtype, device)
        for index, members in groupby(layouts, lambda layout: layout.path.block_in)
    ]
    columns = torch.cat([_columns(spec, layout) for layout in layouts]).to(device)
    to_output = columns.argsort()
    widths = [group.path_of.numel() * group.columns // group.num_paths for group in groups]
    for table in (columns, to_output, *(t for group in groups for t in (group.coupling, group.path_of))):
        torch._dynamo.mark_static(table)

    def factors(x: Tensor, sh: Tensor, weight: Tensor, neighbor: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each group `M[edge, k, i] = Σ_j C_ijk Y_j`, features [edge, i, u], weights [edge, k, u]."""
        features = x.split([mul * irrep.dim for mul, irrep in spec.irreps_in], dim=1)
        weights = weight.split([group.columns for group in groups], dim=1)
        return [
            (
                (sh @ group.coupling).unflatten(1, (-1, group.dim_in)),
                features[group.block].unflatten(1, (group.dim_in, -1))[neighbor],
                w.unflatten(1, (group.num_paths, -1))[:, group.path_of],
            )
            for group, w in zip(groups, weights, strict=True)
        ]

    def value(x: Tensor, sh: Tensor, weight: Tensor, center: Tensor, neighbor: Tensor, row_ptr: Tensor, _: Tensor):
        sums: list[Tensor] = []
        for matrix, feature, w in factors(x, sh, weight, neighbor):
            message = _contract(matrix, feature) * w
            zeros = x.new_zeros(row_ptr.shape[0] - 1, *message.shape[1:])
            sums.append(zeros.index_add(0, center, message))
        return sums

    def gradient(
        grads: list[Tensor], x: Tensor, sh: Tensor, weight: Tensor, center: Tensor, neighbor: Tensor, *_: Tensor
    ):
        dx = [x.new_zeros(x.shape[0], irrep.dim, mul) for mul, irrep in spec.irreps_in]
        dsh, dweight = torch.zeros_like(sh), []
        for group, part, (matrix, feature, w) in zip(groups, grads, factors(x, sh, weight, neighbor), strict=True):
            g = part[center]
            gw = g * w
            by_feature = (matrix.unsqueeze(3) * gw.unsqueeze(2)).sum(1)
            by_matrix = (gw.unsqueeze(2) * feature.unsqueeze(1)).sum(3)
            by_path = w.new_zeros(w.shape[0], group.num_paths, w.shape[2])
            by_path = by_path.index_add(1, group.path_of, _contract(matrix, feature) * g)
            dx[group.block] = dx[group.block].index_add(0, neighbor, by_feature)
            dsh = dsh + by_matrix.flatten(1) @ group.coupling.t()
            dweight.append(by_path.flatten(1))
        return torch.cat([part.flatten(1) for part in dx], 1), dsh, torch.cat(dweight, 1)

    cv, cg = _compile(value, device), _compile(gradient, device)
    def v(*a):
        return torch.cat([x.flatten(1) for x in cv(*a)],1)[:,to_output]
    def gr(grad,*a):
        grads=[p.unflatten(1,(g.path_of.numel(),-1)).contiguous() for p,g in zip(grad[:,columns].split(widths,1),groups)]
        for p in grads: torch._dynamo.mark_dynamic(p,0); torch._dynamo.mark_static(p,[1,2])
        return cg(grads,*a)
    return {"value": v, "gradient": gr}


def _contract(matrix: Float[Tensor, "edge k i"], feature: Float[Tensor, "edge i u"]) -> Float[Tensor, "edge k u"]:
    """A product and a sum, which fuse with what comes before and after; `torch.bmm` would not."""
    return (matrix.unsqueeze(3) * feature.unsqueeze(1)).sum(2)


def _group(
    spec: TensorProductSpec, block: int, members: list[PathLayout], dtype: torch.dtype, device: torch.device
) -> _Group:
    dims = [layout.path.irrep_out.dim for layout in members]
    coupling = np.zeros((spec.irreps_sh.dim, sum(dims), members[0].dim_in))
    for layout, first in zip(members, np.cumsum([0, *dims]), strict=False):
        for i, j, k, value in layout.entries:
            coupling[layout.harmonic + j, first + k, i] = value
    return _Group(
        block=block,
        dim_in=members[0].dim_in,
        num_paths=len(members),
        columns=sum(spec.channels(layout.path) for layout in members),
        coupling=torch.as_tensor(coupling, dtype=dtype, device=device).flatten(1),
        path_of=torch.arange(len(dims), device=device).repeat_interleave(torch.tensor(dims, device=device)),
    )


def _columns(spec: TensorProductSpec, layout: PathLayout) -> Int[Tensor, " column"]:
    """Where a path's components and channels lie in the output."""
    components = layout.out + layout.stride * torch.arange(layout.path.irrep_out.dim)
    return (components.unsqueeze(1) + torch.arange(spec.channels(layout.path))).flatten()
