"""From a function of tensors to a graph of operators, with derivatives written out and sizes left free."""

from __future__ import annotations

from typing import Any

import torch
from torch._decomp import core_aten_decompositions
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from nequip.errors import ModelError
from nequip.export.functions import TensorFunction
from nequip.typing import Tensor

# Up to here a sum of products, which is compiled into its surroundings, is taken instead of a call of a
# library for matrices. Examples to trace with are larger in all that is free.
SMALL = 4


def trace(function: TensorFunction, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> GraphModule:
    """The operators that `function` calls, traced at two sizes.

    Raises:
        ModelError: when the two differ, since then the graph is right for the sizes of its inputs alone.
    """
    modules = [
        make_fx(
            function,
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,
            decomposition_table=_decompositions(),
        )(*inputs)
        for inputs in (first, second)
    ]
    for one, other in zip(*(_lines(module.graph) for module in modules), strict=False):
        if one != other:
            raise ModelError(
                f"this model computes otherwise at another size ({one}; {other}): tell us of it."
            )
    if len(modules[0].graph.nodes) != len(modules[1].graph.nodes):
        raise ModelError("this model takes other steps at another number of atoms: tell us of it.")
    return modules[0]


def _decompositions() -> dict[Any, Any]:
    table: dict[Any, Any] = dict(core_aten_decompositions())

    def bmm(left: Tensor, right: Tensor) -> Tensor:
        if left.shape[2] > SMALL:
            return NotImplemented
        return (left.unsqueeze(3) * right.unsqueeze(1)).sum(2)

    def mm(left: Tensor, right: Tensor) -> Tensor:
        if left.shape[1] > SMALL:
            return NotImplemented
        return (left.unsqueeze(2) * right.unsqueeze(0)).sum(1)

    return {**table, torch.ops.aten.bmm.default: bmm, torch.ops.aten.mm.default: mm}


def _lines(graph: Graph) -> list[str]:
    """One line for each node, without what two traces may call differently."""
    numbers = {node: index for index, node in enumerate(graph.nodes)}

    def line(node: Node) -> str:
        arguments = map_arg((node.args, node.kwargs), lambda used: f"%{numbers[used]}")
        return f"{node.op} {node.target} {arguments}"

    return [line(node) for node in graph.nodes]
