"""From a potential to machine code: traced, exported with free sizes, compiled by AOTInductor."""

from __future__ import annotations

import logging
import platform
from pathlib import Path
from typing import NamedTuple

import torch
from torch.fx import GraphModule, Node

from nequip.errors import ModelError
from nequip.export.card import Target
from nequip.export.examples import FIRST, SECOND, TYPICAL, Sizes, dynamic_shapes, example_inputs
from nequip.export.fold import fold_constants
from nequip.export.functions import target_function
from nequip.export.trace import trace
from nequip.kernels.native.compiler import instruction_set
from nequip.kernels.native.library import KernelLibrary, loaded_kernels
from nequip.model.potential import Potential
from nequip.typing import Tensor

logger = logging.getLogger(__name__)

# Levels of x86 that have these instructions; without one, code is for the very machine that compiles it.
MARCH = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "generic": "x86-64"}

# Loops are written for about as many threads; when the code runs it takes as many as it is given.
THREADS = 16


class Compiled(NamedTuple):
    """Files that AOTInductor wrote, and what the code in them calls."""

    files: list[str]
    kernels: tuple[KernelLibrary, ...]
    uses_operators: bool
    exchange_widths: tuple[int, ...]  # columns of the rows of each exchange


def compile_potential(potential: Potential, target: Target, head: int, folder: Path) -> Compiled:
    """Compile for the device that the potential is on; files go to `folder`.

    Raises:
        ModelError: for a model that cannot be traced or compiled.
    """
    device = next(potential.parameters()).device.type
    num_types = len(potential.card.type_names)
    function = target_function(potential, target, head)

    def inputs(sizes: Sizes) -> tuple[Tensor, ...]:
        return example_inputs(target, sizes, num_types, device)

    traced = trace(function, inputs(FIRST), inputs(SECOND))
    calls = [node for node in traced.graph.nodes if _is_ours(node)]
    kernels, widths = _kernels(calls), _exchange_widths(calls)  # now: to export a graph changes its notes
    typical = inputs(TYPICAL)
    exported = torch.export.export(traced, typical, dynamic_shapes=dynamic_shapes(target))
    module = exported.module(check_guards=False)
    assert isinstance(module, GraphModule)
    fold_constants(module)
    files = _compile(module, typical, folder)
    uses_operators = any("exchange" not in str(node.target) for node in calls)
    return Compiled(files, kernels, uses_operators, widths)


def _compile(module: GraphModule, inputs: tuple[Tensor, ...], folder: Path) -> list[str]:
    options = {
        "aot_inductor.package": True,
        # its own: files are named by their code, which may be that of other weights too
        "aot_inductor.output_path": str(folder),
        "aot_inductor.compile_wrapper_opt_level": "O1",  # O3 crashes g++ 12
        "cpp.threads": THREADS,
        "cpp.dynamic_threads": True,
        **_architecture(),
    }
    try:
        files = torch._inductor.aot_compile(module, inputs, options=options)
    except torch._inductor.exc.InductorError as error:
        raise ModelError(
            f"torch could not compile this model ({_first_line(error)}): tell us of it."
        ) from error
    assert isinstance(files, list)
    return files


def _architecture() -> dict[str, str]:
    """The option of torch that keeps to instructions which the card tells."""
    if platform.machine() != "x86_64":
        return {}
    if not hasattr(torch._inductor.config.cpp, "march"):
        logger.warning(
            "torch %s compiles for processors like this one only; with torch 2.13 the file runs on others.",
            torch.__version__,
        )
        return {}
    return {"cpp.march": MARCH[instruction_set()]}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _is_ours(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "nequip"


def _kernels(calls: list[Node]) -> tuple[KernelLibrary, ...]:
    """Libraries of kernels that operators look up by their specifications."""
    wanted: set[tuple[str, int]] = set()
    for node in calls:
        first = next(value for value in node.args if isinstance(value, Node))
        size = first.meta["val"].element_size()
        wanted |= {(value, size) for value in node.args if isinstance(value, str)}
    return tuple(sorted(k for k in loaded_kernels() if (k.spec, k.scalar_bytes) in wanted))


def _exchange_widths(calls: list[Node]) -> tuple[int, ...]:
    rows = [node.args[0] for node in calls if str(node.target) == "nequip.exchange.default"]
    return tuple(int(row.meta["val"].shape[1]) for row in rows)
