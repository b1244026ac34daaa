"""Every backend of the convolution against the plain one: values and three orders of derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import Backend, TensorProductSpec, convolve
from nequip.kernels.tensor_product.tabulated import convolve_tabulated
from nequip.o3 import Irreps

FAST: list[Backend] = ["cpu"]
DTYPES = {torch.float64: 1e-11, torch.float32: 2e-5}


def spec(irreps_in: str, irreps_sh: str, keep: str) -> TensorProductSpec:
    return TensorProductSpec.full(Irreps(irreps_in), Irreps(irreps_sh), Irreps(keep))


ODD_HARMONICS, EVEN_HARMONICS = "0e+1o+2e+3o+4e", "0e+1e+2e"
BOTH = "32x0e+32x0o+32x1e+32x1o+32x2e+32x2o"
MODELS = {
    "NequIP, first layer": spec("32x0e", "0e+1o+2e", BOTH),
    "NequIP, both parities": spec(BOTH, "0e+1o+2e", BOTH),
    "NequIP, last layer": spec(BOTH, "0e+1o+2e", "0e"),
    "NequIP S": spec("128x0e+64x1o", "0e+1o", "0e+1o"),
    "NequIP M": spec("128x0e+64x1o+32x2e", "0e+1o+2e", "0e+1o+2e"),
    "NequIP L": spec("128x0e+64x1o+32x2e+32x3o", "0e+1o+2e+3o", "0e+1o+2e+3o"),
    "NequIP XL, its last layer": spec("320x0e+96x1o+64x2e+32x3o+32x4e", ODD_HARMONICS, "0e"),
    "SevenNet-0": spec("128x0e+64x1e+32x2e", EVEN_HARMONICS, "0e+1e+2e"),
    "MACE, first layer": spec("64x0e", "0e+1o+2e+3o", "0e+1o+2e+3o"),
    "MACE, equivariant": spec("24x0e+24x1o", "0e+1o+2e+3o", "0e+1o+2e+3o"),
}
SMALL = {
    "channels that fill no vector": spec("7x0e+3x1o+1x2e", "0e+1o+2e", "0e+1o+2e"),
    "l of 4": spec("2x0e+1x4e", "0e+4e", "0e+4e"),
    "a block that leads nowhere": spec("3x0e+2x3e", "0e+1o", "0e"),
}


def problem(spec: TensorProductSpec, dtype: torch.dtype, rows: int = 5, edges: int = 23, sources: int = 7):
    """Row 2 has no edges, and there are more sources than rows, as with ghost atoms."""
    generator = torch.Generator().manual_seed(1)
    center = torch.randint(0, max(rows, 1), (edges,), generator=generator).sort().values
    center[center == 2] = 1
    neighbor = torch.randint(0, max(sources, 1), (edges,), generator=generator)
    counts = torch.bincount(center, minlength=rows).cumsum(0)
    row_ptr = torch.cat([torch.zeros(1, dtype=torch.int64), counts])
    arrays = [
        torch.randn(count, width, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
        for count, width in (
            (sources, spec.irreps_in.dim),
            (edges, spec.irreps_sh.dim),
            (edges, spec.num_weights),
        )
    ]
    return arrays, Edges(center, neighbor, row_ptr, neighbor.argsort(stable=True))


def derivatives(
    backend: Backend, spec: TensorProductSpec, arrays, edges: Edges, order: int
) -> Iterator[torch.Tensor]:
    """The sum, then the gradients of the sum of squares of everything before, `order` times."""
    values = [convolve(*arrays, edges, spec=spec, backend=backend)]
    yield values[0]
    for step in range(order):
        total = sum(value.square().mean() for value in values if value.numel())
        if not isinstance(total, torch.Tensor) or not total.requires_grad:
            return
        values = list(
            torch.autograd.grad(total, arrays, create_graph=step < order - 1, materialize_grads=True)
        )
        yield from values


def assert_same(actual: Iterator[torch.Tensor], expected: Iterator[torch.Tensor], tolerance: float) -> None:
    for value, want in zip(actual, expected, strict=True):
        assert value.shape == want.shape
        scale = want.detach().abs().max() if want.numel() else torch.tensor(1.0)
        torch.testing.assert_close(value, want, rtol=0, atol=tolerance * max(float(scale), 1e-30))


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS.keys())
def test_the_gradient_of_every_model(backend, spec, dtype):
    arrays, edges = problem(spec, dtype)
    assert_same(
        derivatives(backend, spec, arrays, edges, 1),
        derivatives("reference", spec, arrays, edges, 1),
        DTYPES[dtype],
    )


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [*SMALL, "NequIP, both parities", "SevenNet-0"])
def test_three_orders(backend, name, dtype):
    spec = (SMALL | MODELS)[name]
    arrays, edges = problem(spec, dtype)
    assert_same(
        derivatives(backend, spec, arrays, edges, 3),
        derivatives("reference", spec, arrays, edges, 3),
        10 * DTYPES[dtype],
    )


SIZES = {"0 edges": (3, 0, 3), "1 atom": (1, 2, 1), "nothing": (0, 0, 0), "many edges in a row": (2, 900, 3)}


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_sizes(backend, size):
    spec = SMALL["channels that fill no vector"]
    arrays, edges = problem(spec, torch.float64, *size)
    assert_same(
        derivatives(backend, spec, arrays, edges, 2),
        derivatives("reference", spec, arrays, edges, 2),
        1e-10,
    )


@pytest.mark.parametrize("backend", FAST)
def test_several_blocks_of_rows(backend):
    """Enough edges for the work to be cut in blocks that add to the same sources."""
    spec = SMALL["channels that fill no vector"]
    arrays, edges = problem(spec, torch.float64, 60, 3000, 40)
    assert_same(
        derivatives(backend, spec, arrays, edges, 2),
        derivatives("reference", spec, arrays, edges, 2),
        1e-10,
    )


@pytest.mark.parametrize("backend", FAST)
def test_threads_do_not_change_a_bit(backend):
    spec = SMALL["channels that fill no vector"]
    arrays, edges = problem(spec, torch.float32, 60, 3000, 40)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(list(derivatives(backend, spec, arrays, edges, 2)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_against_finite_differences(backend, order):
    spec = TensorProductSpec.full(Irreps("2x0e+1x1o"), Irreps("0e+1o"), Irreps("0e+1o"))
    arrays, edges = problem(spec, torch.float64, 3, 4, 3)

    def derivative(*values: torch.Tensor) -> torch.Tensor:
        result = convolve(*values, edges, spec=spec, backend=backend).square().sum()
        for _ in range(order - 1):
            grads = torch.autograd.grad(result, values, create_graph=True)
            result = sum(g.square().sum() for g in grads)
        return result

    assert torch.autograd.gradcheck(derivative, arrays)


@pytest.mark.parametrize("backend", FAST)
def test_arrays_need_not_be_contiguous(backend):
    spec = SMALL["channels that fill no vector"]
    arrays, edges = problem(spec, torch.float64)
    strided = [a.detach().t().contiguous().t().requires_grad_() for a in arrays]
    assert not any(a.is_contiguous() for a in strided)
    got = derivatives(backend, spec, strided, edges, 2)
    assert_same(got, derivatives(backend, spec, arrays, edges, 2), 1e-12)


@pytest.mark.parametrize("backend", FAST)
def test_every_element_is_written(backend):
    """New arrays hold NaN: what is left of them would show."""
    spec = SMALL["a block that leads nowhere"]
    arrays, edges = problem(spec, torch.float64)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        results = list(derivatives(backend, spec, arrays, edges, 2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(result.isfinite().all() for result in results)


@pytest.mark.parametrize("backend", FAST)
def test_inside_a_checkpoint_derivatives_are_the_same(backend):
    """A checkpoint gives what was saved once for each backward pass."""
    spec = SMALL["channels that fill no vector"]
    arrays, edges = problem(spec, torch.float64)

    def convolved(*values: torch.Tensor) -> torch.Tensor:
        return convolve(*values, edges, spec=spec, backend=backend)

    def gradients(function: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        """Of first and of second order, and of their squares."""
        first = torch.autograd.grad(function(*arrays).square().sum(), arrays, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), arrays, create_graph=True)
        third = torch.autograd.grad(sum(g.square().sum() for g in second), arrays)
        return [*first, *second, *third]

    kept = gradients(lambda *values: checkpoint(convolved, *values, use_reentrant=False))
    torch.testing.assert_close(kept, gradients(convolved))


def test_weights_from_a_table_inside_a_checkpoint_have_their_gradient():
    spec = SMALL["channels that fill no vector"]
    (x, sh, _), edges = problem(spec, torch.float64)
    position = torch.rand(len(sh), dtype=torch.float64).requires_grad_()
    knots = torch.randn(2, 3, spec.num_weights, dtype=torch.float64)
    arrays = [x, sh, position]

    def convolved(*values: torch.Tensor) -> torch.Tensor:
        return convolve_tabulated(*values, knots, edges, spec=spec, backend="cpu")

    kept = checkpoint(convolved, *arrays, use_reentrant=False)
    gradients = [torch.autograd.grad(out.square().sum(), arrays) for out in (kept, convolved(*arrays))]
    torch.testing.assert_close(*gradients)
