"""Where Triton runs: its interpreter and its compiler in processes of their own; a GPU if there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils._pytree import tree_map_only

T = TypeVar("T")


def device() -> str:
    """Of tests marked "interpreted": the GPU, if there is one, else the CPU of the interpreter."""
    return "cuda" if torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1" else "cpu"


def moved(values: T) -> T:
    """The same lists and tuples with all tensors on that device."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(device()), values)


def run_interpreted(tests: str) -> None:
    """Those of a file that are marked "interpreted": a process chooses before it imports triton."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def compiled(target: str, package: str, *problems: tuple[object, str]) -> list[dict[str, Any]]:
    """Every kernel of specifications and dtypes, and the registers and memory that it takes."""
    script = Path(__file__).with_name("compile_triton.py")
    arguments = [str(word) for problem in problems for word in problem]
    command = [sys.executable, str(script), target, package, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
