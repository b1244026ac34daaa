"""Which C++ compiler there is, and which vector instructions it may use here."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nequip.errors import KernelError

CANDIDATES = ("c++", "g++", "clang++")

# Named, never "native": a library records what it was built for and is refused where that is missing.
INSTRUCTION_SETS = {
    "avx512": ("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mavx2", "-mfma"),
    "avx2": ("-mavx2", "-mfma"),
    "generic": (),
}


@dataclass(frozen=True)
class Compiler:
    """A compiler that runs, and what it calls itself."""

    path: str
    version: str

    def command(self, source: str, target: str, flags: tuple[str, ...]) -> list[str]:
        """Libraries among the flags come after the source that needs them."""
        return [self.path, "-std=c++20", "-O2", "-shared", "-fPIC", source, *flags, "-o", target]

    def compile(self, source: Path, target: Path, flags: tuple[str, ...]) -> None:
        """A shared library from one source file.

        Raises:
            KernelError: with the first error that the compiler reports.
        """
        command = self.command(str(source), str(target), flags)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip())
            raise KernelError(
                f"{self.path} could not build {source.name} ({said[:300]}): choose backend reference, "
                "and tell us of it."
            )


@cache
def find_compiler() -> Compiler:
    """The first C++ compiler on PATH that answers.

    Raises:
        KernelError: when there is none.
    """
    for name in CANDIDATES:
        path = shutil.which(name)
        version = None if path is None else _version(path)
        if path is not None and version is not None:
            return Compiler(path, version)
    raise KernelError(
        f"there is no C++ compiler here (looked for {', '.join(CANDIDATES)}), which kernels for the "
        "CPU are built with: install g++ 12 or clang 15 or newer, or choose backend reference."
    )


def _version(path: str) -> str | None:
    """The first line that a compiler says of itself, if it runs here."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return next(iter(done.stdout.splitlines()), None) if done.returncode == 0 else None


def instruction_set() -> str:
    """The widest vector instructions of this machine that kernels are written for."""
    import torch  # here, so that the names of backends are known without it

    return {"AVX512": "avx512", "AVX2": "avx2"}.get(torch.backends.cpu.get_cpu_capability(), "generic")
