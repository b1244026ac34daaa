"""Sums onto centers against a loop, and their derivatives, for every backend that runs here.

Triton's kernels run on the CPU in an interpreter, which a process has to choose before it imports
triton: one test runs those for triton once more in such a process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from nequip.errors import KernelError
from nequip.kernels import scatter
from nequip.kernels.native.compiler import CANDIDATES
from nequip.kernels.scatter import segment_sum

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_TORCH_SCATTER = find_spec("torch_scatter") is not None
HAS_COMPILER = any(shutil.which(name) for name in CANDIDATES)
ABSENT = {"native": not HAS_COMPILER, "torch_scatter": not HAS_TORCH_SCATTER, "triton": True}
BACKENDS = ["triton"] if INTERPRETED else [name for name in scatter.BACKENDS if not ABSENT.get(name)]
OPERATORS = {
    "native": ["segment_sum"],
    "triton": ["segment_sum_triton", "segment_sum_triton_backward"],
}
ROW_POINTERS = {
    "isolated atoms": [0, 0, 2, 2, 7, 7],
    "one atom": [0, 4],
    "no edges": [0, 0, 0],
    "no atoms": [0],
    "a long row": [0, 1, 70, 71],
}
WIDTHS = [(), (3,), (2, 5), (0,), (130,)]


def some_values(row_ptr: torch.Tensor, *width: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(int(row_ptr[-1]), *width, dtype=dtype, generator=generator)


def written_out(values: torch.Tensor, row_ptr: torch.Tensor) -> torch.Tensor:
    rows = [values[first:last].sum(0) for first, last in pairwise(row_ptr.tolist())]
    return torch.stack(rows) if rows else values.new_zeros(0, *values.shape[1:])


@pytest.fixture
def poisoned_memory():
    """New arrays are full of NaN until they are written."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("row_ptr", ROW_POINTERS.values(), ids=ROW_POINTERS.keys())
@pytest.mark.parametrize("width", WIDTHS)
def test_equals_a_loop(backend, dtype, row_ptr, width):
    row_ptr = torch.tensor(row_ptr)
    values = some_values(row_ptr, *width, dtype=dtype)
    torch.testing.assert_close(
        segment_sum(values, row_ptr, backend=backend), written_out(values, row_ptr), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("row_ptr", [[0, 0, 2, 5, 5], [0, 0]])
def test_derivatives(backend, order, row_ptr):
    row_ptr = torch.tensor(row_ptr)
    values = some_values(row_ptr, 2).requires_grad_()

    def derivative(values: torch.Tensor) -> torch.Tensor:
        # fourth powers, since a linear sum alone would have no higher derivatives
        result = segment_sum(values, row_ptr, backend=backend).pow(4).sum()
        for _ in range(order - 1):
            (grad,) = torch.autograd.grad(result, values, create_graph=True)
            result = grad.square().sum()
        return result

    assert torch.autograd.gradcheck(derivative, values)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["transposed", "strided", "expanded"])
def test_values_in_any_layout(backend, layout):
    row_ptr = torch.tensor([0, 2, 2, 5])
    values = {
        "transposed": torch.randn(3, 5).t(),
        "strided": torch.randn(10, 6)[::2, ::2],
        "expanded": torch.randn(5, 1).expand(5, 3),
    }[layout]
    torch.testing.assert_close(segment_sum(values, row_ptr, backend=backend), written_out(values, row_ptr))


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiles_to_one_graph(backend):
    # An interpreter cannot look into the arrays of a trace: there, capture alone.
    compiler = "eager" if backend == "triton" else "aot_eager"
    row_ptr = torch.tensor([0, 2, 2, 5])
    values = some_values(row_ptr, 3).requires_grad_()
    compiled = torch.compile(segment_sum, fullgraph=True, backend=compiler, dynamic=True)
    actual = compiled(values, row_ptr, backend=backend)
    torch.testing.assert_close(actual, written_out(values, row_ptr))
    (grad,) = torch.autograd.grad(actual.square().sum(), values)
    (expected,) = torch.autograd.grad(written_out(values, row_ptr).square().sum(), values)
    torch.testing.assert_close(grad, expected)


class Sum(torch.nn.Module):
    def __init__(self, backend: str):
        super().__init__()
        self.backend = backend

    def forward(self, values: torch.Tensor, row_ptr: torch.Tensor) -> torch.Tensor:
        return segment_sum(values, row_ptr, backend=self.backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_exports_for_any_number_of_edges_and_atoms(backend):
    small, large = torch.tensor([0, 2, 2, 5]), torch.tensor([0, 1, 1, 4, 9, 11])
    dynamic = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(
        Sum(backend), (some_values(small, 3), small), dynamic_shapes=(dynamic, dynamic)
    )
    values = some_values(large, 3)
    torch.testing.assert_close(program.module()(values, large), written_out(values, large))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_trace_through_derivatives_runs_at_other_sizes(backend):
    def gradient(values: torch.Tensor, row_ptr: torch.Tensor) -> torch.Tensor:
        energy = segment_sum(values, row_ptr, backend=backend).pow(3).sum()
        (forces,) = torch.autograd.grad(energy, values, create_graph=True)
        return torch.autograd.grad(forces.square().sum(), values)[0]

    small, large = torch.tensor([0, 2, 2, 5]), torch.tensor([0, 1, 1, 4, 9, 11])
    traced = make_fx(gradient, tracing_mode="symbolic")(some_values(small, 3).requires_grad_(), small)
    values = some_values(large, 3).requires_grad_()
    torch.testing.assert_close(traced(values, large), gradient(values, large))


BAD = {
    "values without rows": (torch.ones(()), torch.tensor([0]), r"values is \[\] of torch.float32"),
    "whole numbers": (torch.ones(2, 3, dtype=torch.int64), torch.tensor([0, 2]), "values is .* torch.int64"),
    "a matrix of pointers": (torch.ones(2), torch.tensor([[0, 2]]), r"row_ptr is \[1, 2\]"),
    "no pointers": (torch.ones(0), torch.tensor([], dtype=torch.int64), r"row_ptr is \[0\]"),
    "int32 pointers": (torch.ones(2), torch.tensor([0, 2], dtype=torch.int32), "row_ptr .* torch.int32"),
    "two devices": (torch.ones(2, device="meta"), torch.tensor([0, 2]), "row_ptr is on cpu .* meta"),
    "edges left over": (torch.ones(3), torch.tensor([0, 2]), "from 0 to 2 .* to 3, the rows of values"),
    "a late start": (torch.ones(3), torch.tensor([1, 3]), "from 1 to 3"),
    "descending": (torch.ones(3), torch.tensor([0, 3, 2, 3]), "descends"),
    "not an edge": (torch.ones(0), torch.tensor([0, 2]), "from 0 to 2"),
}


@pytest.mark.parametrize(("values", "row_ptr", "message"), BAD.values(), ids=BAD.keys())
def test_arrays_that_do_not_fit_are_named(values, row_ptr, message):
    with pytest.raises(KernelError, match=message):
        segment_sum(values, row_ptr)


def test_an_unknown_backend_is_told_the_nearest():
    with pytest.raises(KernelError, match=r"no backend 'tritn' \(did you mean 'triton'\?\)"):
        segment_sum(torch.ones(2), torch.tensor([0, 2]), backend="tritn")


@pytest.mark.parametrize(
    ("package", "advice"),
    [("torch_scatter", "pip install --no-build-isolation torch-scatter"), ("triton", "install triton")],
)
def test_what_is_not_installed_is_told(package, advice, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)  # an import of it fails from here on
    monkeypatch.delitem(sys.modules, f"nequip.kernels.scatter.{package}", raising=False)
    monkeypatch.delattr(scatter, package, raising=False)
    with pytest.raises(KernelError, match=f"backend {package} cannot be imported .*{advice}"):
        segment_sum(torch.ones(2), torch.tensor([0, 2]), backend=package)


@pytest.mark.compiled_by_triton
def test_triton_needs_a_gpu():
    with pytest.raises(KernelError, match="triton needs a GPU, but values is on cpu"):
        segment_sum(torch.ones(2), torch.tensor([0, 2]), backend="triton")


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name in OPERATORS])
@pytest.mark.parametrize("width", [1, 3])
def test_operators_keep_their_contract(backend, width):
    row_ptr = torch.tensor([0, 2, 2, 5])
    values = some_values(row_ptr, width).requires_grad_()
    grad = segment_sum(values, row_ptr, backend=backend).detach().requires_grad_()
    arguments = {"segment_sum_triton_backward": (grad, row_ptr, 5)}
    # an interpreter cannot look into the arrays of a trace
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    checks += [] if backend == "triton" else ["test_aot_dispatch_dynamic"]
    for name in OPERATORS[backend]:
        operator = getattr(torch.ops.nequip, name)
        torch.library.opcheck(operator, arguments.get(name, (values, row_ptr)), test_utils=checks)


@pytest.mark.interpreted
def test_the_second_derivative_of_triton_has_no_atomics():
    def loss(values: torch.Tensor, row_ptr: torch.Tensor) -> torch.Tensor:
        energy = segment_sum(values, row_ptr, backend="triton").pow(3).sum()
        (forces,) = torch.autograd.grad(energy, values, create_graph=True)
        return torch.autograd.grad(forces.square().sum(), values)[0]

    row_ptr = torch.tensor([0, 2, 2, 5])
    code = make_fx(loss, tracing_mode="symbolic")(some_values(row_ptr, 3).requires_grad_(), row_ptr).code
    assert code.count("segment_sum_triton.default") == 2
    assert "index_add" not in code


@pytest.mark.compiled_by_triton
def test_triton_in_its_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "triton"]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nequip.kernels.scatter.triton import sum_kernel

target = {"cuda": GPUTarget("cuda", 90, 32), "hip": GPUTarget("hip", "gfx942", 64)}[sys.argv[1]]
for scalar in ("fp32", "fp64"):
    for edges, columns in ((8, 128), (32, 1)):
        signature = {"values": f"*{scalar}", "row_ptr": "*i64", "sums": f"*{scalar}", "num_edges": "i32"}
        signature |= {name: "i32" for name in ("width", "stride_edge", "stride_column")}
        signature |= {"EDGES": "constexpr", "COLUMNS": "constexpr"}
        source = ASTSource(sum_kernel, signature, {"EDGES": edges, "COLUMNS": columns})
        binary = triton.compile(source, target=target)
        assert binary.asm[{"cuda": "cubin", "hip": "hsaco"}[sys.argv[1]]]
"""


@pytest.mark.compiled_by_triton
@pytest.mark.parametrize("target", ["cuda", "hip"])
def test_triton_compiles_without_a_gpu(target):
    subprocess.run([sys.executable, "-c", COMPILE, target], check=True)


EXPORT = """
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from nequip.kernels.scatter import segment_sum
from nequip.kernels.scatter.triton import launch

class Sum(torch.nn.Module):
    def forward(self, values, row_ptr):
        return segment_sum(values, row_ptr, backend="triton")

with FakeTensorMode(shape_env=ShapeEnv()):
    values, row_ptr = torch.empty(5, 3, device="cuda"), torch.empty(4, dtype=torch.int64, device="cuda")
    dynamic = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(Sum(), (values, row_ptr), dynamic_shapes=(dynamic, dynamic))
assert "nequip.segment_sum_triton" in program.graph_module.code
inside = make_fx(launch, tracing_mode="symbolic")(torch.zeros(5, 3), torch.tensor([0, 2, 2, 5]))
assert "triton_kernel_wrapper" in inside.code
"""


@pytest.mark.compiled_by_triton
def test_a_graph_for_a_gpu_holds_the_operator_and_that_the_kernel():
    subprocess.run([sys.executable, "-c", EXPORT], check=True)
