"""The symmetric contraction in plain PyTorch, compiled by torch.compile. See README.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from typing import Any, Literal

import torch

from mace_ext.contraction.autograd import SCHEMAS, parse, register_derivatives, register_shapes
from mace_ext.contraction.formula import Formula
from mace_ext.contraction.points import Point, unstack
from mace_ext.contraction.spec import SymmetricSpec
from nequip.kernels.compiled_functions import compile_function
from nequip.typing import Float, Int, Tensor

Name = Literal["by_grad", "by_features", "by_weight"]


def contract_symmetric(
    x: Float[Tensor, "atom component_channel"],
    weight: Float[Tensor, "type path_channel"],
    types: Int[Tensor, " atom"],
    spec: SymmetricSpec,
) -> Float[Tensor, "atom component_out_channel"]:
    """The same through the operator; see mace_ext.contraction.contract_symmetric."""
    prepare()
    return torch.ops.nequip.contract_symmetric_compiled(x, weight, types, spec.text)


@torch.compiler.assume_constant_result
def prepare() -> None:
    """Define the operators, once."""
    _define_operators()


@cache
def _define_operators() -> None:
    functions = {"": _value, "_backward": _backward, "_derivative": _derivative}
    for suffix, function in functions.items():
        name = f"nequip::contract_symmetric_compiled{suffix}"
        torch.library.define(name, SCHEMAS[suffix])
        torch.library.impl(name, ("cpu", "cuda"), function)
    register_shapes("contract_symmetric_compiled")
    register_derivatives("contract_symmetric_compiled")


def _value(x: Tensor, weight: Tensor, types: Tensor, spec: str) -> Tensor:
    return _run("by_grad", [Point(None, x, weight)], types, spec)


def _backward(
    grad: Tensor, x: Tensor, weight: Tensor, types: Tensor, spec: str, with_weight: bool
) -> tuple[Tensor, Tensor]:
    points = [Point(grad, x, weight)]
    return _run("by_features", points, types, spec), _by_weight(points, types, spec, with_weight)


def _derivative(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    types, spec, with_weight = arguments[6:]
    points = [Point(*arguments[3:6]), *unstack(*arguments[:3])]
    by_grad, by_features = (_run(name, points, types, spec) for name in ("by_grad", "by_features"))
    return by_grad, by_features, _by_weight(points, types, spec, with_weight)


def _by_weight(points: list[Point], types: Tensor, spec: str, wanted: bool) -> Tensor:
    weight = points[0].weight
    assert weight is not None
    return _run("by_weight", points, types, spec) if wanted else weight.new_empty(0, weight.shape[1])


def _run(name: Name, points: Sequence[Point], types: Tensor, spec: str) -> Tensor:
    """Call the compiled function with those arrays that are given."""
    x = points[0].x
    assert x is not None
    given = tuple(tuple(value is not None for value in point) for point in points)
    values = [value for point in points for value in point if value is not None]
    return _function(name, spec, given, x.dtype, x.device)(types, *values)


@cache
def _function(
    name: Name, text: str, given: tuple[tuple[bool, ...], ...], dtype: torch.dtype, device: torch.device
) -> Callable[..., Tensor]:
    """One formula, compiled; `given` says which arrays of each point there are."""
    formula = Formula(parse(text), dtype, device)

    def run(types: Tensor, *values: Tensor) -> Tensor:
        left = list(values)
        points = [Point(*(left.pop(0) if there else None for there in point)) for point in given]
        return getattr(formula, name)(points, types)

    label = sha256(f"{name} {text} {given} {dtype} {device}".encode()).hexdigest()[:16]
    places = [place for point in given for place, there in enumerate(point) if there]
    weights = {n for n, place in enumerate(places, 1) if place == 2}
    return compile_function(run, f"symmetric_{label}", device, weights)
