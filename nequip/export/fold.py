"""What a graph of operators computes from its weights alone: once, and not in every run."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

# Larger results stay computations, lest they fill the file.
MOST_NUMBERS = 1 << 22


def fold_constants(module: GraphModule) -> None:
    """Put tensors in the place of operators that see weights and constants only."""
    known: dict[Node, Any] = {}
    with torch.no_grad():
        for node in module.graph.nodes:
            if node.op == "get_attr":
                known[node] = reduce(getattr, str(node.target).split("."), module)
            elif _is_foldable(node, known):
                value = _compute(node, known)
                if not isinstance(value, torch.Tensor) or value.numel() <= MOST_NUMBERS:
                    known[node] = value
    results = [
        node for node in known if node.all_input_nodes and any(user not in known for user in node.users)
    ]
    for index, node in enumerate(results):
        if isinstance(known[node], torch.Tensor):
            _replace(module, node, f"folded_{index}", known[node].contiguous())
    module.graph.eliminate_dead_code()
    module.recompile()


def _is_foldable(node: Node, known: dict[Node, Any]) -> bool:
    if node.op != "call_function" or any(used not in known for used in node.all_input_nodes):
        return False
    if isinstance(node.target, torch._ops.OpOverload):
        return (
            not node.target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in node.target.tags
        )
    return node.target is operator.getitem


def _compute(node: Node, known: dict[Node, Any]) -> Any:
    assert callable(node.target)
    args, kwargs = map_arg((node.args, node.kwargs), lambda used: known[used])
    return node.target(*args, **kwargs)


def _replace(module: GraphModule, node: Node, name: str, value: torch.Tensor) -> None:
    module.register_buffer(name, value)
    with module.graph.inserting_before(node):
        constant = module.graph.get_attr(name)
    constant.meta.update(node.meta)
    node.replace_all_uses_with(constant)
