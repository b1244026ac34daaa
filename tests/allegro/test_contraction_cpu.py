"""Allegro's sums in C++ against the plain ones: values and three orders of derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from allegro.contraction import Backend, ContractionSpec, contract, cpu, environment, weighted_harmonics
from allegro.contraction.cpu_source import cpu_source
from nequip.errors import KernelError
from nequip.kernels.edges import Edges
from nequip.kernels.native.build import build_library
from nequip.kernels.native.compiler import INSTRUCTION_SETS, find_compiler, instruction_set
from nequip.kernels.native.generated import SCALARS
from nequip.kernels.native.library import CSRC, load_kernel

DTYPES = {torch.float64: 1e-12, torch.float32: 2e-5}
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
SPECS = {
    "one parity, 32 channels": "32x0e+32x1o+32x2e|32x0e+32x1o+32x2e|32x0e+32x1o+32x2e",
    "both parities, 7 channels": "7x0e+7x1e+7x1o+7x2e+7x2o|7x0e+7x1o+7x2e|7x0e+7x1e+7x1o+7x2e+7x2o",
    "l of 3 to scalars, 21 channels": "21x0e+21x1o+21x2e+21x3o|21x0e+21x1o+21x2e+21x3o|21x0e",
    "l of 3, 3 channels": "3x0e+3x1o+3x2e+3x3o|3x0e+3x1o+3x2e+3x3o|3x0e+3x1o+3x2e+3x3o",
    "blocks that lead nowhere": "2x0e+2x4e|2x0e+2x1o|2x0e+2x0o+2x1o",
    "one path": "1x0e|1x0e|1x0e",
}
SPECS = {name: ContractionSpec.parse(text) for name, text in SPECS.items()}
SMALL = SPECS["both parities, 7 channels"]
Function = Callable[..., torch.Tensor]


def graph(rows: int = 6, edges: int = 23) -> Edges:
    """Row 2 has no edges."""
    generator = torch.Generator().manual_seed(1)
    center = torch.randint(0, max(rows, 1), (edges,), generator=generator).sort().values
    center[center == 2] = 1
    counts = torch.bincount(center, minlength=rows).cumsum(0)
    neighbor = torch.randint(0, max(rows, 1), (edges,), generator=generator)
    row_ptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts])
    return Edges(center, neighbor, row_ptr, neighbor.argsort(stable=True))


def random(dtype: torch.dtype, *shapes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [
        torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
        for shape in shapes
    ]


def arguments(spec: ContractionSpec, edges: Edges, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Tensors, environments and weights."""
    count, rows = len(edges.center), len(edges.row_ptr) - 1
    shapes = (count, spec.irreps_in.dim), (rows, spec.irreps_env.dim), (len(spec.paths), spec.channels)
    return random(dtype, *shapes)


def contraction(spec: ContractionSpec, edges: Edges, backend: Backend) -> Function:
    return lambda *arrays: contract(*arrays, edges, spec=spec, backend=backend)


def derivatives(function: Function, arrays: list[torch.Tensor], order: int) -> Iterator[torch.Tensor]:
    """The value, then the gradients of the sum of squares of everything before, `order` times."""
    values = [function(*arrays)]
    yield values[0]
    for step in range(order):
        total = sum(value.square().sum() / max(value.numel(), 1) for value in values)
        values = list(
            torch.autograd.grad(total, arrays, create_graph=step < order - 1, materialize_grads=True)
        )
        yield from values


def assert_same(actual: Iterator[torch.Tensor], expected: Iterator[torch.Tensor], tolerance: float) -> None:
    for value, want in zip(actual, expected, strict=True):
        assert value.shape == want.shape
        scale = float(want.detach().abs().max()) if want.numel() else 1.0
        torch.testing.assert_close(value, want, rtol=0, atol=tolerance * max(scale, 1e-30))


def assert_like_reference(spec: ContractionSpec, edges: Edges, dtype: torch.dtype, order: int) -> None:
    arrays = arguments(spec, edges, dtype)
    results = (derivatives(contraction(spec, edges, name), arrays, order) for name in ("cpu", "reference"))
    assert_same(*results, DTYPES[dtype])


@each_dtype
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_three_orders_are_those_of_the_reference(spec, dtype):
    assert_like_reference(spec, graph(), dtype, order=3)


SIZES = {"0 edges": (3, 0), "1 atom": (1, 2), "nothing": (0, 0), "many edges in a row": (2, 900)}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_sizes(size):
    assert_like_reference(SMALL, graph(*size), torch.float64, order=2)


def test_several_blocks_of_rows():
    assert_like_reference(SMALL, graph(60, 3000), torch.float64, order=2)


def test_threads_do_not_change_a_bit():
    edges, before = graph(60, 3000), torch.get_num_threads()
    results: list[list[torch.Tensor]] = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            arrays = arguments(SMALL, edges, torch.float32)
            results.append(list(derivatives(contraction(SMALL, edges, "cpu"), arrays, 2)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


def test_arrays_need_not_be_contiguous():
    edges = graph()
    arrays = arguments(SMALL, edges)
    strided = [a.detach().t().contiguous().t().requires_grad_() for a in arrays]
    function = contraction(SMALL, edges, "cpu")
    assert not any(a.is_contiguous() for a in strided)
    assert_same(derivatives(function, strided, 2), derivatives(function, arrays, 2), 1e-13)


def test_every_element_is_written():
    """New arrays hold NaN: what is left of them would show."""
    spec, edges = SPECS["blocks that lead nowhere"], graph()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        results = list(derivatives(contraction(spec, edges, "cpu"), arguments(spec, edges), 2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(result.isfinite().all() for result in results)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_inside_a_checkpoint_derivatives_are_the_same(order):
    edges = graph()
    function = contraction(SMALL, edges, "cpu")
    arrays = arguments(SMALL, edges)
    kept = derivatives(lambda *x: checkpoint(function, *x, use_reentrant=False), arrays, order)
    assert_same(kept, derivatives(function, arrays, order), 1e-14)


@each_dtype
@pytest.mark.parametrize("sums", [True, False], ids=["environment", "weighted harmonics"])
@pytest.mark.parametrize("size", [(6, 23), (3, 0)], ids=["some edges", "0 edges"])
def test_the_environment_and_what_it_sums_to_three_orders(size, sums, dtype):
    edges, irreps = graph(*size), SMALL.irreps_env
    arrays = random(dtype, (size[1], irreps.dim // 7), (size[1], len(irreps) * 7))

    def function(backend: Backend) -> Function:
        if sums:
            return lambda *x: environment(*x, edges, irreps=irreps, backend=backend)
        return lambda *x: weighted_harmonics(*x, irreps=irreps, backend=backend)

    results = (derivatives(function(name), arrays, 3) for name in ("cpu", "reference"))
    assert_same(*results, DTYPES[dtype])


@each_dtype
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_every_instruction_set_gives_the_numbers_of_the_reference(instructions, dtype, tmp_path):
    if instructions not in list(INSTRUCTION_SETS)[list(INSTRUCTION_SETS).index(instruction_set()) :]:
        pytest.skip(f"this machine has no {instructions}")
    spec = ContractionSpec.parse("21x0e+21x1o|21x0e+21x1o|21x0e+21x1o")  # of this test alone
    cpu.prepare(spec.text, dtype)
    scalar, size = SCALARS[dtype]
    source = cpu_source(spec, scalar)
    library = build_library(source, INSTRUCTION_SETS[instructions], find_compiler(), CSRC, tmp_path)
    load_kernel(spec.text, size, library, kind="contraction")
    assert_like_reference(spec, graph(), dtype, order=2)


@pytest.mark.parametrize("size", [(4, 6), (2, 0)])
@pytest.mark.parametrize("name", ["contract", "contract_backward", "contract_double_backward"])
def test_operators_keep_their_contract(name, size):
    edges = graph(*size)
    arrays = arguments(SMALL, edges)
    (grad,) = random(torch.float64, (len(edges.center), SMALL.irreps_out.dim))
    values = {"contract": (), "contract_backward": (grad,), "contract_double_backward": (*arrays, grad)}[name]
    inputs = [value.detach().clone().requires_grad_() for value in (*values, *arrays)]
    cpu.prepare(SMALL.text, torch.float64)
    torch.library.opcheck(getattr(torch.ops.nequip, name), (*inputs, edges.row_ptr, SMALL.text))


def test_one_trace_of_the_gradient_serves_every_size():
    def gradient(row_ptr: torch.Tensor, *arrays: torch.Tensor) -> list[torch.Tensor]:
        edges = graph()._replace(row_ptr=row_ptr, center=arrays[0][:, 0].long())
        arrays = [x.detach().requires_grad_() for x in arrays]
        out = contract(*arrays, edges, spec=SMALL, backend="cpu")
        return list(torch.autograd.grad(out.square().sum(), arrays))

    first = graph()
    traced = make_fx(gradient, tracing_mode="symbolic")(first.row_ptr, *arguments(SMALL, first))
    for edges in (first, graph(9, 40)):
        arrays = arguments(SMALL, edges)
        torch.testing.assert_close(traced(edges.row_ptr, *arrays), gradient(edges.row_ptr, *arrays))


BAD = {
    "descends": ([0, 9, 5, 23, 23, 23, 23], "row_ptr descends after row 1"),
    "ends too early": ([0, 5, 5, 9, 9, 9, 22], "row_ptr runs from 0 to 22, but there are 23 edges"),
}


@pytest.mark.parametrize(("row_ptr", "message"), BAD.values(), ids=BAD)
def test_wrong_rows_are_told(row_ptr, message):
    edges = graph()
    arrays = arguments(SMALL, edges)
    with pytest.raises(KernelError, match=rf"^contract: {message}\.$"):
        contract(*arrays, edges._replace(row_ptr=torch.tensor(row_ptr)), spec=SMALL, backend="cpu")


@pytest.mark.parametrize("wrong", range(4), ids=["grad", "tensors", "env", "weight"])
def test_operators_name_what_does_not_fit(wrong):
    edges = graph()
    (grad,) = random(torch.float64, (23, SMALL.irreps_out.dim))
    inputs = [grad, *arguments(SMALL, edges)]
    inputs[wrong] = inputs[wrong][:, 1:]
    cpu.prepare(SMALL.text, torch.float64)
    with pytest.raises(RuntimeError, match=rf"{('grad', 'tensors', 'env', 'weight')[wrong]} is \["):
        torch.ops.nequip.contract_backward(*inputs, edges.row_ptr, SMALL.text)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_arrays_of_two_dtypes_are_told(backend):
    edges = graph()
    tensors, env, weight = arguments(SMALL, edges)
    with pytest.raises(KernelError, match=r"^env is torch\.float32 on cpu, not torch\.float64"):
        contract(tensors, env.float(), weight, edges, spec=SMALL, backend=backend)


def test_the_backend_names_the_precisions_that_it_has():
    edges = graph()
    with pytest.raises(KernelError, match=r"float32 and float64, not in torch\.float16"):
        contract(*arguments(SMALL, edges, torch.float16), edges, spec=SMALL, backend="cpu")


def test_a_spec_without_paths_is_told():
    spec = ContractionSpec.parse("1x0e|1x0e|1x2e")
    with pytest.raises(KernelError, match="no paths"):
        contract(*arguments(spec, graph()), graph(), spec=spec)
