"""Compiles generated Triton kernels for a target, without a GPU, and prints what they take there.

    python compile_triton.py cuda nequip.kernels.tensor_product "2x0e+2x1o|0e+1o|0,0,0e;0,1,1o" float32

The package tells which kernels; there may be several specifications, each with its dtype. For each
specification and kernel a line of JSON: registers of a thread, bytes of a thread that did not fit into
them (`spilled`), bytes of shared memory. Triton's compiler needs a process of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib import import_module

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from nequip.kernels.generated_triton import Kernel

TARGETS = {
    "cuda": GPUTarget("cuda", 90, 32),
    "hip": GPUTarget("hip", "gfx942", 64),
}
INDICES = {"center", "neighbor", "transpose", "row_ptr", "neighbor_ptr"}
POINTERS = {"float32": "*fp32", "float64": "*fp64"}


def compiled(kernel: Kernel, target: GPUTarget, dtype: str) -> CompiledKernel:
    """As Triton compiles for arrays that start at a multiple of 16 bytes."""
    names = kernel.function.arg_names
    types = {name: "*i64" if name in INDICES else POINTERS[dtype] for name in names}
    if "num_edges" in types:
        types["num_edges"] = "i32"
    aligned = {(n,): [["tt.divisibility", 16]] for n, name in enumerate(names) if types[name][0] == "*"}
    source = ASTSource(kernel.function, types, {}, aligned)
    return triton.compile(source, target=target, options={"num_warps": 1})


def resources(binary: CompiledKernel) -> dict[str, int]:
    if "amdgcn" in binary.asm:
        text, names = binary.asm["amdgcn"], (r"\.vgpr_count: +", r"\.private_segment_fixed_size: +")
    else:
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(binary.asm["cubin"])
            file.flush()
            command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
            text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        names = ("REG:", "STACK:")
    registers, spilled = (int(re.findall(rf"{name}(\d+)", text)[0]) for name in names)
    return {"registers": registers, "spilled": spilled, "shared": binary.metadata.shared}


def main(target: str, package: str, *problems: str) -> None:
    parse, kernels = import_module(f"{package}.autograd").parse, import_module(f"{package}.triton").kernels
    for text, dtype in zip(problems[::2], problems[1::2], strict=True):
        for order in ("first", "second"):
            found = kernels(parse(text), getattr(torch, dtype), order)
            for kernel in (part for part in found if isinstance(part, Kernel)):
                binary = compiled(kernel, TARGETS[target], dtype)
                line = {"spec": text, "dtype": dtype, "kernel": kernel.function.__name__}
                print(json.dumps(line | resources(binary)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
