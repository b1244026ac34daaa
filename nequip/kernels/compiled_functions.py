"""Formulas of PyTorch compiled by torch.compile, once for arrays of every length."""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import FunctionType
from typing import Any

import torch

from nequip.kernels.native.compiler import find_compiler
from nequip.typing import Tensor


def compile_function(
    function: Callable[..., Any], name: str, device: torch.device, fixed: Collection[int] = ()
) -> Callable[..., Any]:
    """A function of arrays of any length, compiled at the first call with more than one row of each.

    Args:
        function: of tensors, by position; it is not differentiated.
        name: of the function alone: what is known of sizes is kept under it.
        fixed: positions of arrays that always have the same length.

    Raises:
        KernelError: on the CPU, without a C++ compiler.
    """
    options: dict[str, Any] = {
        # No product of an edge is worth its memory: compute it again for every reader.
        "realize_acc_reads_threshold": 1000,
        "realize_opcount_threshold": 10_000,
        "unroll_reductions_threshold": 16,  # sums over components: l up to 7
        "cpp_cache_precompile_headers": False,  # 20 s once, for little later
    }
    if device.type == "cpu":
        # On several threads every element would be summed atomically: on two, ten times slower than on one.
        options |= {"cpp.threads": 1, "cpp.cxx": (find_compiler().path,)}
    # Results are kept by code object, at most 8 to each, and what is known of sizes by name: have our own.
    code = function.__code__.replace(co_name=name)
    own = FunctionType(code, function.__globals__, name, None, function.__closure__)
    compiled = torch.compile(own, fullgraph=True, options=options)

    def run(*values: Tensor) -> Any:
        from torch._dynamo import mark_dynamic, mark_static  # loading it takes a second

        inputs = [value.detach().contiguous() for value in values]
        lengths = [len(value) for n, value in enumerate(inputs) if n not in fixed]
        with torch.no_grad():
            if min(lengths) < 2:  # sizes that would be compiled on their own
                return function(*inputs)
            for n, value in enumerate(inputs):
                if n not in fixed:
                    mark_dynamic(value, 0)
                mark_static(value, list(range(n not in fixed, value.dim())))
            return compiled(*inputs)

    return run
