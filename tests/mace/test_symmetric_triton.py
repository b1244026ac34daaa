"""The Triton kernels of the symmetric contraction: in Triton's interpreter, and compiled for GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import test_symmetric_cpu
import torch
from test_symmetric_cpu import Arrays, assert_same, derivatives
from triton_processes import moved, run_interpreted

from mace_ext.contraction import SymmetricSpec, contract_symmetric
from mace_ext.contraction.points import Point
from mace_ext.contraction.triton import Call, kernels
from nequip.errors import KernelError

SPECS = {
    "degree 3": "2x0e+2x1o|3|2x0e+2x1o",
    "degree 1": "3x1o|1|3x1o",
    "more channels than a program has": "130x0e+130x1o|2|130x0e",
    "a block that nothing leads to": "2x0e+2x2e|2|2x0e+2x1o",
}
SPECS = {name: SymmetricSpec.parse(text) for name, text in SPECS.items()}
TINY = SymmetricSpec.parse("2x0e+2x1o|2|2x0e+2x1o")


def arguments(
    spec: SymmetricSpec, atoms: int = 23, num_types: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[Arrays, torch.Tensor]:
    return moved(test_symmetric_cpu.arguments(spec, atoms, num_types, dtype))


@pytest.fixture
def poisoned_memory():
    """New arrays are full of NaN until they are written."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.interpreted
@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_value_and_gradient_are_those_of_the_reference(spec):
    arrays, types = arguments(spec, 3)
    results = (derivatives(name, spec, arrays, types, 1) for name in ("triton", "reference"))
    assert_same(*results, 1e-13)


@pytest.mark.interpreted
@pytest.mark.parametrize("sizes", [(0, 2), (1, 1)], ids=str)
def test_sizes(sizes):
    arrays, types = arguments(TINY, *sizes)
    assert_same(*(derivatives(name, TINY, arrays, types, 1) for name in ("triton", "reference")), 1e-13)


@pytest.mark.interpreted
def test_three_orders_are_those_of_the_reference():
    arrays, types = arguments(TINY, 2, 2)
    assert_same(*(derivatives(name, TINY, arrays, types, 3) for name in ("triton", "reference")), 1e-12)


@pytest.mark.interpreted
def test_arrays_of_single_precision():
    arrays, types = arguments(TINY, 2, dtype=torch.float32)
    assert_same(*(derivatives(name, TINY, arrays, types, 1) for name in ("triton", "reference")), 2e-6)


@pytest.mark.interpreted
def test_arrays_need_not_be_contiguous():
    (x, weight), types = arguments(TINY, 3)
    strided = [value.detach().t().contiguous().t() for value in (x, weight)]
    apart = torch.stack([types, types], dim=1)[:, 0]
    got, want = (
        Call(Point(None, *pair), t, TINY).by_grad() for pair, t in ((strided, apart), ((x, weight), types))
    )
    assert torch.equal(got, want)


def test_other_dtypes_are_refused():
    with pytest.raises(KernelError, match=r"float32 and float64, not in torch\.float16"):
        kernels(TINY, torch.float16, 0, False)


@pytest.mark.compiled_by_triton
def test_a_cpu_is_refused():
    arrays, types = test_symmetric_cpu.arguments(TINY)
    with pytest.raises(KernelError, match="cannot run on a CPU"):
        contract_symmetric(*arrays, types, spec=TINY, backend="triton")


@pytest.mark.compiled_by_triton
def test_in_the_interpreter():
    run_interpreted(__file__)


COMPILE = """
import json, sys, torch, triton
from compile_triton import POINTERS, TARGETS, resources
from triton.compiler import ASTSource
from mace_ext.contraction import SymmetricSpec
from mace_ext.contraction.triton import kernels

target, text, *dtypes = sys.argv[1:]
values = {"x", "along_x", "grad", "along_grad", "c", "along_c", "out"}
for dtype in dtypes:
    for order, moving in ((0, False), (1, False), (2, True)):
        for kernel in kernels(SymmetricSpec.parse(text), getattr(torch, dtype), order, moving):
            names = kernel.function.arg_names
            types = {name: POINTERS[dtype] if name in values else "*i64" for name in names}
            types |= {name: "i32" for name in names if name.startswith("num_")}
            arrays = [n for n, name in enumerate(names) if types[name][0] == "*"]
            aligned = {(n,): [["tt.divisibility", 16]] for n in arrays}
            source = ASTSource(kernel.function, types, {}, aligned)
            binary = triton.compile(source, target=TARGETS[target], options={"num_warps": 1})
            line = {"dtype": dtype, "order": order, "kernel": kernel.function.__name__}
            print(json.dumps(line | resources(binary)))
"""


def compiled(target: str, spec: SymmetricSpec, *dtypes: str) -> list[dict[str, Any]]:
    """Every kernel, and the registers and memory that it takes."""
    command = [sys.executable, "-c", COMPILE, target, spec.text, *dtypes]
    folder = Path(__file__).parents[1]  # of compile_triton
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.compiled_by_triton
@pytest.mark.parametrize("target", ["cuda", "hip"])
def test_compiles_without_a_gpu(target):
    assert len(compiled(target, TINY, "float32", "float64")) == 18


@pytest.mark.compiled_by_triton
def test_nothing_spills_and_no_memory_is_shared():
    spec = SymmetricSpec.parse("128x0e+128x1o+128x2e+128x3o|3|128x0e+128x1o")
    for kernel in compiled("cuda", spec, "float32"):
        assert (kernel["spilled"], kernel["shared"]) == (0, 0), kernel


TRACE = """
import torch, triton
from torch._functorch.aot_autograd import aot_module_simplified
from triton.backends.compiler import GPUTarget
from mace_ext.contraction import SymmetricSpec, triton_operators


class Driver:
    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)


triton.runtime.driver.set_active(Driver())  # a trace asks it, as it would on a machine with that GPU
triton_operators.prepare()


def show(graph, inputs):
    for node in graph.graph.nodes:
        if "triton" in str(node.target):
            print(*node.kwargs["tensors_to_clone"])
    raise SystemExit  # there is no GPU to run it on


def derivative(*arrays):
    return torch.ops.nequip.contract_symmetric_triton_derivative(*arrays, spec.text, True)


spec = SymmetricSpec.parse("2x0e+2x1o|2|2x0e+2x1o")
shapes = [(1, 5, 8), (1, 5, 8), (1, 0, spec.num_weights), (5, 8), (5, 8), (3, spec.num_weights)]
types = torch.zeros(5, dtype=torch.int64)
torch.compile(
    derivative, fullgraph=True, dynamic=True,
    backend=lambda module, inputs: aot_module_simplified(module, inputs, fw_compiler=show),
)(*(torch.zeros(shape) for shape in shapes), types)
"""


@pytest.mark.compiled_by_triton
def test_a_trace_sees_that_kernels_change_their_results_alone():
    """Arrays that a kernel may change are copied before each of its calls."""
    done = subprocess.run([sys.executable, "-c", TRACE], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n") == ["out", "out", "out", ""], done.stderr
