"""The library of torch operators in csrc/, loaded once for each process."""

from __future__ import annotations

import ctypes
import hashlib
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from nequip.errors import KernelError
from nequip.kernels.native.build import build_library
from nequip.kernels.native.compiler import INSTRUCTION_SETS, find_compiler, instruction_set

CSRC = Path(__file__).parents[1] / "csrc"

# The oldest torch whose stable ABI the operators ask for: one binary serves every later version.
TARGET_VERSION = "0x020a000000000000"


Kind = Literal["conv", "contraction", "symmetric"]


class KernelLibrary(NamedTuple):
    """Generated kernels: what kind, for which specification and bytes of a scalar, and their library."""

    kind: str
    spec: str
    scalar_bytes: int
    path: Path


@cache
def abi() -> str:
    """What kernels and compiled models expect of the operators: a digest of all that they see of them."""
    seen = [*sorted(CSRC.glob("*_abi.h")), CSRC / "operators.cpp"]
    return hashlib.sha256("\0".join(path.read_text() for path in seen).encode()).hexdigest()[:16]


@cache
def load_operators() -> ctypes.CDLL:
    """`torch.ops.nequip`, and the C functions that register generated kernels with it.

    Raises:
        KernelError: without a C++ compiler, or where the library cannot be built.
    """
    path = build_operators()  # even where they are loaded: kernels will have to be built too
    library = loaded_operators() or open_operators(path)
    if (loaded := read_abi(library)) != abi():
        raise KernelError(
            f"this process has loaded operators of another e3forge ({loaded}, not {abi()}) with a compiled "
            "model: use that model in a process of its own."
        )
    return library


def loaded_operators() -> ctypes.CDLL | None:
    """The operators of this process, whoever loaded them: a compiled model may bring its own, LAMMPS too."""
    process = ctypes.CDLL(None)
    return process if hasattr(process, "nequip_abi") else None


def open_operators(path: Path) -> ctypes.CDLL:
    """Load a library of operators, the first of this process: torch takes no second one."""
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def read_abi(library: ctypes.CDLL) -> str:
    """`abi` of a library of operators."""
    library.nequip_abi.restype = ctypes.c_char_p
    return library.nequip_abi().decode()


def build_operators() -> Path:
    """The library of csrc/, from the cache or built now; raises as `load_operators`."""
    root = Path(torch.__file__).parent
    flags = (
        "-O3",  # for loops over channels that a compiler can put in vectors by itself
        *INSTRUCTION_SETS[instruction_set()],
        f"-DTORCH_TARGET_VERSION={TARGET_VERSION}",
        f'-DNEQUIP_ABI="{abi()}"',
        f"-I{root / 'include'}",
        f"-I{root / 'include/torch/csrc/api/include'}",
        f"-L{root / 'lib'}",
        "-ltorch_cpu",
        "-lc10",
    )
    source = (CSRC / "operators.cpp").read_text()
    return build_library(source, flags, find_compiler(), CSRC)


@cache
def loaded_kernels() -> set[KernelLibrary]:
    """Every library of kernels that this process has loaded: they are as global as the operators."""
    return set()


def load_kernel(spec: str, scalar_bytes: int, path: Path, kind: Kind = "conv") -> None:
    """Let the operators of a kind find the kernels in the library at `path`.

    Raises:
        KernelError: for a file that is no such library, or is for another machine.
    """
    kernel = KernelLibrary(kind, spec, scalar_bytes, path)
    problem = register_kernel(load_operators(), kernel)
    if problem is not None:
        raise KernelError(f"{problem}: remove that file, and it is built again.")
    loaded_kernels().add(kernel)


def register_kernel(operators: ctypes.CDLL, kernel: KernelLibrary) -> str | None:
    """Let `operators` find the functions of a library; what is wrong with it, if anything is."""
    load = getattr(operators, f"nequip_load_{kernel.kind}")
    load.restype = ctypes.c_char_p
    problem = load(kernel.spec.encode(), kernel.scalar_bytes, str(kernel.path).encode())
    return None if problem is None else problem.decode()
