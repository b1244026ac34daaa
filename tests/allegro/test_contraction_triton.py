"""Allegro's Triton kernels: in Triton's interpreter, and compiled for GPUs."""

from __future__ import annotations

from itertools import pairwise

import pytest
import test_contraction_cpu
import torch
from golden_files import Golden, golden_files
from test_contraction_cpu import assert_same, contraction, derivatives
from triton_processes import compiled, device, moved, run_interpreted

from allegro.config import PRESETS
from allegro.contraction import ContractionSpec, contract, environment, reference, triton, weighted_harmonics
from allegro.irreps import harmonics, layer_irreps
from nequip.errors import KernelError
from nequip.kernels.edges import Edges


def graph(*sizes: int) -> Edges:
    return moved(test_contraction_cpu.graph(*sizes))


def random(dtype: torch.dtype, *shapes: tuple[int, int]) -> list[torch.Tensor]:
    return moved(test_contraction_cpu.random(dtype, *shapes))


def arguments(spec: ContractionSpec, edges: Edges, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return moved(test_contraction_cpu.arguments(spec, edges, dtype))


DTYPES = {torch.float64: 1e-13, torch.float32: 3e-6}
SPECS = {
    "one parity": "2x0e+2x1o+2x2e|2x0e+2x1o+2x2e|2x0e+2x1o+2x2e",
    "both parities, several units": "1x0e+1x1e+1x1o+1x2e|1x0e+1x1o+1x2e|1x1e+1x1o+1x2e+1x2o",
    "channels that fill no tile": "7x0e+7x1o|7x0e+7x1o|7x0e+7x1e+7x1o",
    "two blocks of channels": "35x0e+35x1o|35x0e+35x1o|35x0e",
    "l of 3": "1x3o|1x1o+1x3o|1x0e+1x2e+1x3e",
    "blocks that lead nowhere": "2x0e+2x4e|2x0e+2x1o|2x0e+2x0o+2x1o",
    "one path": "1x0e|1x0e|1x0e",
}
SPECS = {name: ContractionSpec.parse(text) for name, text in SPECS.items()}
TINY = SPECS["channels that fill no tile"]


def by_triton(spec: ContractionSpec, edges: Edges, arrays: list[torch.Tensor]) -> list[torch.Tensor]:
    """All that the backend computes: value, gradient, Hessian along a direction."""
    grad, point, along = arrays[0], arrays[1:4], arrays[4:]
    return [
        triton.contract(*point, edges.row_ptr, spec),
        *triton.contract_backward(grad, *point, edges.row_ptr, spec),
        *triton.contract_double_backward(*along, grad, *point, edges.row_ptr, spec),
    ]


def by_autograd(spec: ContractionSpec, edges: Edges, arrays: list[torch.Tensor]) -> list[torch.Tensor]:
    grad, point, along = arrays[0], arrays[1:4], arrays[4:]
    value = reference.contract(*point, edges, spec)
    gradient = torch.autograd.grad((grad * value).sum(), point, create_graph=True, materialize_grads=True)
    slope = sum((g * v).sum() for g, v in zip(gradient, along, strict=True))
    return [value, *gradient, *torch.autograd.grad(slope, [grad, *point], materialize_grads=True)]


def point_and_direction(spec: ContractionSpec, edges: Edges, dtype: torch.dtype) -> list[torch.Tensor]:
    point = arguments(spec, edges, dtype)
    shapes = (tuple(array.shape) for array in point)
    grad, *along = random(dtype, (len(edges.center), spec.irreps_out.dim), *shapes)
    return [grad, *point, *along]


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
    [*((name, torch.float64) for name in SPECS), ("channels that fill no tile", torch.float32)],
    ids=str,
)
def test_value_gradient_and_hessian(name, dtype):
    spec, edges = SPECS[name], graph(4, 5)
    arrays = point_and_direction(spec, edges, dtype)
    assert_same(by_triton(spec, edges, arrays), by_autograd(spec, edges, arrays), DTYPES[dtype])


def test_a_spec_of_the_interpreter_has_several_units():
    by_grad, by_tensors, by_row = triton.kernels(
        SPECS["both parities, several units"], torch.float64, "second"
    )
    assert by_grad.units > 2
    assert by_tensors.units > 1
    assert by_row.units > 2


SIZES = {"0 edges": (3, 0), "1 atom": (1, 2), "nothing": (0, 0), "a row of several tiles": (2, 21)}


@pytest.mark.interpreted
@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_sizes(size):
    edges = graph(*size)
    arrays = point_and_direction(TINY, edges, torch.float64)
    assert_same(by_triton(TINY, edges, arrays), by_autograd(TINY, edges, arrays), 1e-13)


@pytest.mark.interpreted
def test_arrays_need_not_be_contiguous():
    edges = graph(3, 5)
    arrays = point_and_direction(TINY, edges, torch.float64)
    strided = [array.detach().t().contiguous().t() for array in arrays]
    apart = edges._replace(row_ptr=torch.stack([edges.row_ptr] * 2, dim=1)[:, 0])
    assert not any(array.is_contiguous() for array in (*strided, apart.row_ptr))
    assert_same(by_triton(TINY, apart, strided), by_triton(TINY, edges, arrays), 0.0)


@pytest.mark.interpreted
def test_operators_to_third_order():
    edges = graph(3, 5)
    arrays = arguments(TINY, edges)
    results = (
        derivatives(contraction(TINY, edges, backend), arrays, 3) for backend in ("triton", "reference")
    )
    assert_same(*results, 1e-11)


@pytest.mark.interpreted
@pytest.mark.parametrize("sums", [True, False], ids=["environment", "weighted harmonics"])
def test_the_environment_and_what_it_sums_to_third_order(sums):
    edges, irreps = graph(3, 5), TINY.irreps_env
    arrays = random(torch.float64, (5, 4), (5, 14))

    def function(backend):
        if sums:
            return lambda *x: environment(*x, edges, irreps=irreps, backend=backend)
        return lambda *x: weighted_harmonics(*x, irreps=irreps, backend=backend)

    results = (derivatives(function(backend), arrays, 3) for backend in ("triton", "reference"))
    assert_same(*results, 1e-11)


@pytest.mark.interpreted
@pytest.mark.parametrize("structure", ["dimer", "ethanol"])
def test_a_golden_file(structure):
    (path,) = (path for path in golden_files("allegro") if path.stem == "allegro_small")
    golden = Golden(path)
    golden.check_float64(golden.predict(structure, "float64", "triton", device=device()), structure)


def test_other_dtypes_are_refused():
    with pytest.raises(KernelError, match=r"float32 and float64, not in torch\.float16"):
        triton.kernels(TINY, torch.float16, "first")


@pytest.mark.compiled_by_triton
def test_a_cpu_is_refused():
    edges = test_contraction_cpu.graph()
    with pytest.raises(KernelError, match="cannot run on a CPU"):
        contract(*test_contraction_cpu.arguments(TINY, edges), edges, spec=TINY, backend="triton")


@pytest.mark.compiled_by_triton
def test_in_the_interpreter():
    run_interpreted(__file__)


def specs_of(size: str) -> list[ContractionSpec]:
    """Of the layers of a preset."""
    shape = PRESETS[size]
    l_max, channels = shape["l_max"], shape["num_tensor_features"]
    irreps = layer_irreps(l_max, True, shape["num_layers"], channels)
    env = harmonics(l_max, channels)
    return [ContractionSpec(before, env, after) for before, after in pairwise(irreps)]


@pytest.mark.compiled_by_triton
@pytest.mark.parametrize("target", ["cuda", "hip"])
def test_presets_compile_without_a_gpu_and_nothing_spills(target):
    """Not the large one, of which each layer takes a minute."""
    specs = {*specs_of("small"), *specs_of("medium")}
    kernels = compiled(
        target, "allegro.contraction", *((spec, dtype) for spec in specs for dtype in ("float32", "float64"))
    )
    assert len(kernels) == 12 * len(specs)
    for kernel in kernels:
        assert (kernel["spilled"], kernel["shared"]) == (0, 0), kernel
