"""Generated C++ kernels: built for this machine and loaded for the operators that call them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from nequip.errors import KernelError
from nequip.kernels.native.build import build_library
from nequip.kernels.native.compiler import INSTRUCTION_SETS, find_compiler, instruction_set
from nequip.kernels.native.library import CSRC, Kind, load_kernel
from nequip.typing import Tensor

SCALARS = {torch.float32: ("float", 4), torch.float64: ("double", 8)}


def provide(kind: Kind, spec: str, dtype: torch.dtype, source: Callable[[str], str]) -> None:
    """Let the operators of a kind find what `source` writes for a scalar, "float" or "double".

    Raises:
        KernelError: without a C++ compiler, or for a dtype other than float32 and float64.
    """
    if dtype not in SCALARS:
        raise KernelError(f"backend cpu computes in float32 and float64, not in {dtype}: convert the model.")
    scalar, size = SCALARS[dtype]
    path = build_library(source(scalar), INSTRUCTION_SETS[instruction_set()], find_compiler(), CSRC)
    load_kernel(spec, size, path, kind)


def call(function: str, operator: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """The operator's result, and its complaints, which begin with its name, as those of `function`.

    Raises:
        KernelError: for what it finds wrong with its arguments.
    """
    try:
        return operator(*arguments)
    except RuntimeError as error:
        family = operator.__name__.partition("_")[0]  # conv_table shares what checks the edges with conv
        problem = re.search(rf"\b{family}\w*: (.*)", str(error))
        if problem is None:
            raise
        raise KernelError(f"{function}: {problem[1]}.") from error
