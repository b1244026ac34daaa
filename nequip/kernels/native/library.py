"""The library of torch operators in csrc/, loaded once for each process."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from nequip.errors import KernelError
from nequip.kernels.native.build import build_library
from nequip.kernels.native.compiler import INSTRUCTION_SETS, find_compiler, instruction_set

CSRC = Path(__file__).parents[1] / "csrc"

# The oldest torch whose stable ABI the operators ask for: one binary serves every later version.
TARGET_VERSION = "0x020a000000000000"


@cache
def load_operators() -> ctypes.CDLL:
    """`torch.ops.nequip`, and the C functions that register generated kernels with it.

    Raises:
        KernelError: without a C++ compiler, or where the library cannot be built.
    """
    root = Path(torch.__file__).parent
    flags = (
        "-O3",  # for loops over channels that a compiler can put in vectors by itself
        *INSTRUCTION_SETS[instruction_set()],
        f"-DTORCH_TARGET_VERSION={TARGET_VERSION}",
        f"-I{root / 'include'}",
        f"-I{root / 'include/torch/csrc/api/include'}",
        f"-L{root / 'lib'}",
        "-ltorch_cpu",
        "-lc10",
    )
    source = (CSRC / "operators.cpp").read_text()
    path = build_library(source, flags, find_compiler(), CSRC)
    torch.ops.load_library(str(path))
    return ctypes.CDLL(str(path))


def load_kernel(
    spec: str, scalar_bytes: int, path: Path, kind: Literal["conv", "contraction"] = "conv"
) -> None:
    """Let the operators of a kind find the kernels in the library at `path`.

    Raises:
        KernelError: for a file that is no such library, or is for another machine.
    """
    load = getattr(load_operators(), f"nequip_load_{kind}")
    load.restype = ctypes.c_char_p
    problem = load(spec.encode(), scalar_bytes, str(path).encode())
    if problem is not None:
        raise KernelError(f"{problem.decode()}: remove that file, and it is built again.")
