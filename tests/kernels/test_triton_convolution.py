"""The convolution's Triton kernels: in Triton's interpreter, compiled for GPUs, and traced."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from golden_files import Golden, golden_files
from triton_processes import compiled, device, moved, run_interpreted

from nequip.errors import KernelError
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import TensorProductSpec, convolve, reference, triton
from nequip.o3 import Irreps

PACKAGE = "nequip.kernels.tensor_product"
DTYPES = {torch.float64: 1e-13, torch.float32: 3e-6}


def spec(irreps_in: str, irreps_sh: str, keep: str) -> TensorProductSpec:
    return TensorProductSpec.full(Irreps(irreps_in), Irreps(irreps_sh), Irreps(keep))


BOTH = "{0}x0e+{0}x0o+{0}x1e+{0}x1o+{0}x2e+{0}x2o"
SPECS = {
    "NequIP, both parities": spec(BOTH.format(2), "0e+1o+2e", BOTH.format(1)),
    "uneven channels": spec("7x0e+3x1o+2x2e", "0e+1o+2e", "0e+1o+2e"),
    "SevenNet, l_max 3": spec("2x0e+2x1e+2x2e+2x3e", "0e+1e+2e+3e", "0e+1e+2e+3e"),
    "MACE, two blocks of channels": spec("64x0e", "0e+1o+2e+3o", "0e+1o+2e+3o"),
    "more channels than a tile": spec("33x0e+33x0o+5x1o", "0e+1o", "0o+0e+1o"),
    "l of 4": spec("2x0e+1x4e", "0e+4e", "0e+4e"),
    "a block that leads nowhere": spec("3x0e+2x3e", "0e+1o", "0e"),
}
SMALL = SPECS["uneven channels"]
TINY = spec("3x0e+2x1o", "0e+1o", "0e+1o")


def problem(spec: TensorProductSpec, dtype: torch.dtype, rows: int = 3, edges: int = 5, sources: int = 4):
    """grad, x, sh, weight and directions of the last three; row 1 and the last source have no edges.

    There are more sources than rows, as with ghost atoms.
    """
    generator = torch.Generator().manual_seed(2)
    center = torch.randint(0, max(rows, 1), (edges,), generator=generator).sort().values
    center[center == 1] = 0
    neighbor = torch.randint(0, max(sources - 1, 1), (edges,), generator=generator)
    counts = torch.bincount(center, minlength=rows).cumsum(0)
    row_ptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts])
    point = [(sources, spec.irreps_in.dim), (edges, spec.irreps_sh.dim), (edges, spec.num_weights)]
    shapes = [(rows, spec.irreps_out.dim), *point, *point]
    arrays = [torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype) for shape in shapes]
    return moved((arrays, Edges(center, neighbor, row_ptr, neighbor.argsort(stable=True))))


def by_triton(arrays: list[torch.Tensor], edges: Edges, spec: TensorProductSpec) -> list[torch.Tensor]:
    """All that the backend computes: value, gradient, Hessian along a direction."""
    grad, x, sh, weight, *along = arrays
    value = triton.conv(x, sh, weight, edges, spec)
    gradient = triton.conv_backward(grad, x, sh, weight, edges, spec)
    return [value, *gradient, *triton.conv_double_backward(*along, grad, x, sh, weight, edges, spec)]


def by_autograd(arrays: list[torch.Tensor], edges: Edges, spec: TensorProductSpec) -> list[torch.Tensor]:
    point, along = [value.clone().requires_grad_() for value in arrays[:4]], arrays[4:]
    value = reference.convolve(*point[1:], edges, spec)[: len(edges.row_ptr) - 1]
    gradient = torch.autograd.grad(
        (point[0] * value).sum(), point[1:], create_graph=True, materialize_grads=True
    )
    slope = sum((g * v).sum() for g, v in zip(gradient, along, strict=True))
    return [value, *gradient, *torch.autograd.grad(slope, point, materialize_grads=True)]


def assert_same(actual: list[torch.Tensor], expected: list[torch.Tensor], tolerance: float) -> None:
    for value, want in zip(actual, expected, strict=True):
        scale = max(1.0, *want.detach().abs().amax(dim=1).tolist()) if want.numel() else 1.0
        torch.testing.assert_close(value, want.detach(), rtol=0, atol=tolerance * scale)


@pytest.fixture
def poisoned_memory():
    """New arrays are full of NaN until they are written."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.interpreted
@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float64) for name in SPECS), ("uneven channels", torch.float32)],
    ids=str,
)
def test_value_gradient_and_hessian(name, dtype):
    spec = SPECS[name]
    arrays, edges = problem(spec, dtype)
    assert_same(by_triton(arrays, edges, spec), by_autograd(arrays, edges, spec), DTYPES[dtype])


SIZES = {
    "0 edges": (3, 0, 3),
    "1 atom": (1, 2, 1),
    "nothing": (0, 0, 0),
    "a row of several tiles": (1, 40, 2),
}


@pytest.mark.interpreted
@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_sizes(size):
    arrays, edges = problem(SMALL, torch.float64, *size)
    assert_same(by_triton(arrays, edges, SMALL), by_autograd(arrays, edges, SMALL), 1e-13)


@pytest.mark.interpreted
def test_arrays_need_not_be_contiguous():
    arrays, edges = problem(TINY, torch.float64)
    strided = [value.t().contiguous().t() for value in arrays]
    apart = Edges(*(torch.stack([index, index], dim=1)[:, 0] for index in edges))
    assert not any(value.is_contiguous() for value in (*strided, *apart))
    assert_same(by_triton(strided, apart, TINY), by_triton(arrays, edges, TINY), 0.0)


def test_other_dtypes_are_refused():
    with pytest.raises(KernelError, match=r"float32 and float64, not in torch\.float16"):
        triton.kernels(SMALL, torch.float16, "first")


@pytest.mark.interpreted
def test_operators_to_third_order():
    (_, x, sh, weight, *_), edges = problem(TINY, torch.float64)
    results = []
    for backend in ("triton", "reference"):
        inputs = [value.detach().clone().requires_grad_() for value in (x, sh, weight)]
        values = [convolve(*inputs, edges, spec=TINY, backend=backend)]
        found = list(values)
        for _ in range(3):
            total = sum(value.square().mean() for value in values)
            values = list(torch.autograd.grad(total, inputs, create_graph=True))
            found += values
        results.append([value.detach() for value in found])
    assert_same(*results, 1e-11)


@pytest.mark.interpreted
@pytest.mark.parametrize("structure", ["ethanol", "triclinic", "slab"])
@pytest.mark.parametrize("name", ["nequip_small", "nequip_parity"])
def test_golden_files(name, structure):
    (path,) = (path for path in golden_files("nequip") if path.stem == name)
    golden = Golden(path)
    golden.check_float64(golden.predict(structure, "float64", "triton", device=device()), structure)


@pytest.mark.compiled_by_triton
def test_a_cpu_is_refused():
    arrays, edges = problem(TINY, torch.float64)
    on_cpu = [array.cpu() for array in arrays]
    with pytest.raises(KernelError, match="cannot run on a CPU"):
        convolve(*on_cpu[1:4], edges, spec=TINY, backend="triton")


@pytest.mark.compiled_by_triton
def test_in_the_interpreter():
    run_interpreted(__file__)


@pytest.mark.compiled_by_triton
@pytest.mark.parametrize("target", ["cuda", "hip"])
def test_compiles_without_a_gpu(target):
    kernels = compiled(target, PACKAGE, (TINY, "float32"), (TINY, "float64"))
    assert len({(kernel["dtype"], kernel["kernel"]) for kernel in kernels}) == 12


@pytest.mark.compiled_by_triton
def test_nothing_spills_and_no_memory_is_shared():
    nequip = spec(BOTH.format(32), "0e+1o+2e", BOTH.format(1))
    for kernel in compiled("cuda", PACKAGE, (nequip, "float32")):
        assert (kernel["spilled"], kernel["shared"]) == (0, 0), kernel


TRACE = """
import torch
import triton
from torch import Tensor
from torch._functorch.aot_autograd import aot_module_simplified
from triton.backends.compiler import GPUTarget

from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import TensorProductSpec
from nequip.kernels.tensor_product.triton import conv_double_backward


class Driver:
    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)


triton.runtime.driver.set_active(Driver())  # a trace asks it, as it would on a machine with that GPU


@torch.library.triton_op("nequip_test::hessian", mutates_args={})
def hessian(
    a: Tensor, b: Tensor, c: Tensor, grad: Tensor, x: Tensor, sh: Tensor, weight: Tensor,
    center: Tensor, neighbor: Tensor, row_ptr: Tensor, transpose: Tensor, spec: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    edges = Edges(center, neighbor, row_ptr, transpose)
    return conv_double_backward(a, b, c, grad, x, sh, weight, edges, TensorProductSpec.parse(spec))


def show(graph, inputs):
    for node in graph.graph.nodes:
        if "triton" in str(node.target):
            print(*node.kwargs["tensors_to_clone"])
    raise SystemExit  # there is no GPU to run it on


spec = TensorProductSpec.parse("2x0e+2x1o|0e+1o|0,0,0e;0,1,1o;1,0,1o")
widths = [8, 4, 6, 8, 8, 4, 6]
rows = [3, 5, 5, 3, 3, 5, 5]
arrays = [torch.zeros(row, width) for row, width in zip(rows, widths)]
indices = [torch.tensor(i) for i in ([0, 0, 1, 1, 2], [1, 2, 0, 2, 0], [0, 2, 4, 5], [2, 4, 0, 1, 3])]
torch.compile(
    lambda *arguments: hessian(*arguments, str(spec)), fullgraph=True, dynamic=True,
    backend=lambda module, inputs: aot_module_simplified(module, inputs, fw_compiler=show),
)(*arrays, *indices)
"""


@pytest.mark.compiled_by_triton
def test_a_trace_sees_that_kernels_change_their_results_alone():
    """Arrays that a kernel may change are copied before each of its calls."""
    done = subprocess.run([sys.executable, "-c", TRACE], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n") == ["out", "dx", "dsh dweight", ""], done.stderr
