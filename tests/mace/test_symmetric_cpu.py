"""The symmetric contraction in C++ against the plain one: values and derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from mace_ext.contraction import SymmetricSpec, contract_symmetric, cpu
from mace_ext.contraction.cpu_source import cpu_source
from nequip.errors import KernelError
from nequip.kernels.native.build import build_library
from nequip.kernels.native.compiler import INSTRUCTION_SETS, find_compiler, instruction_set
from nequip.kernels.native.generated import SCALARS
from nequip.kernels.native.library import CSRC, load_kernel

DTYPES = {torch.float64: 1e-12, torch.float32: 2e-5}
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
SPECS = {
    "scalars, full vectors": "32x0e+32x1o+32x2e+32x3o|3|32x0e",
    "vectors, uneven channels": "21x0e+21x1o+21x2e|3|21x0e+21x1o",
    "degree 4": "3x0e+3x1o|4|3x0e+3x1o+3x2e",
    "degree 1": "2x0e+2x1o|1|2x1o",
    "both parities": "5x0e+5x0o+5x1e+5x1o|2|5x0o+5x1e+5x2e",
    "a block that nothing leads to": "3x0e+3x2e|2|3x0e+3x1o",
}
SPECS = {name: SymmetricSpec.parse(text) for name, text in SPECS.items()}
SMALL = SPECS["degree 4"]
Arrays = tuple[torch.Tensor, torch.Tensor]


def arguments(
    spec: SymmetricSpec, atoms: int = 23, num_types: int = 4, dtype: torch.dtype = torch.float64
) -> tuple[Arrays, torch.Tensor]:
    """Features and weights, then types; of type 1 there are no atoms."""
    generator = torch.Generator().manual_seed(3)
    shapes = (atoms, spec.irreps_in.dim), (num_types, spec.num_weights)
    x, weight = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    types = torch.randint(0, num_types, (atoms,), generator=generator)
    types[types == 1] = 0
    return (x.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_()), types


def derivatives(
    backend: str, spec: SymmetricSpec, arrays: Arrays, types: torch.Tensor, order: int
) -> Iterator[torch.Tensor]:
    """The value, then the gradients of the sum of squares of everything before, `order` times."""
    values = [contract_symmetric(*arrays, types, spec=spec, backend=backend)]
    yield values[0]
    for step in range(order):
        total = sum(value.square().sum() / max(value.numel(), 1) for value in values)
        values = list(torch.autograd.grad(total, arrays, create_graph=step < order - 1))
        yield from values


def assert_same(actual: Iterator[torch.Tensor], expected: Iterator[torch.Tensor], tolerance: float) -> None:
    for value, want in zip(actual, expected, strict=True):
        assert value.shape == want.shape
        scale = float(want.detach().abs().max()) if want.numel() else 1.0
        torch.testing.assert_close(value, want, rtol=0, atol=tolerance * max(scale, 1e-30))


def assert_like_reference(spec: SymmetricSpec, order: int, *sizes: int, dtype=torch.float64) -> None:
    problem = arguments(spec, *sizes, dtype=dtype)
    results = (derivatives(name, spec, *problem, order) for name in ("cpu", "reference"))
    assert_same(*results, DTYPES[dtype])


@each_dtype
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_two_orders_are_those_of_the_reference(spec, dtype):
    assert_like_reference(spec, 2, dtype=dtype)


@pytest.mark.parametrize("name", ["scalars, full vectors", "degree 4", "degree 1"])
def test_third_and_fourth_order_are_those_of_the_reference(name):
    assert_like_reference(SPECS[name], 4, 5)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_by_features_alone_are_those_of_the_reference(order):
    """Directions do not touch the weights: those are other kernels."""
    results: list[list[torch.Tensor]] = []
    for backend in ("cpu", "reference"):
        (x, weight), types = arguments(SMALL)
        energy = contract_symmetric(x, weight, types, spec=SMALL, backend=backend).square().sum()
        found = [energy]
        for _ in range(order):
            (grad,) = torch.autograd.grad(found[-1], x, create_graph=True)
            found.append(grad.pow(2).sum())
        results.append([*found, *torch.autograd.grad(found[-1], (x, weight))])
    assert_same(*map(iter, results), 1e-12)


def test_a_fifth_derivative_is_refused():
    problem = arguments(SPECS["degree 1"], 2)
    with pytest.raises(KernelError, match="differentiates an energy 5 times, not more"):
        list(derivatives("cpu", SPECS["degree 1"], *problem, 5))


@pytest.mark.parametrize("sizes", [(0, 3), (1, 1), (700, 2)], ids=str)
def test_sizes(sizes):
    assert_like_reference(SPECS["vectors, uneven channels"], 2, *sizes)


def test_forces_do_not_compute_the_gradient_by_weights():
    (x, weight), types = arguments(SMALL)
    energy = contract_symmetric(x, weight, types, spec=SMALL, backend="cpu").sum()
    asked = energy.grad_fn.next_functions[0][0]
    seen: list[object] = []
    asked.register_hook(lambda grads, _: seen.append(grads[1]))
    torch.autograd.grad(energy, x, retain_graph=True)
    torch.autograd.grad(energy, (x, weight))
    assert seen[0] is None
    assert seen[1].shape == weight.shape


def test_threads_do_not_change_a_bit():
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            problem = arguments(SMALL, 500, dtype=torch.float32)
            results.append(list(derivatives("cpu", SMALL, *problem, 2)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


def test_arrays_need_not_be_contiguous():
    (x, weight), types = arguments(SMALL)
    strided = tuple(value.detach().t().contiguous().t().requires_grad_() for value in (x, weight))
    apart = torch.stack([types, types], dim=1)[:, 0]
    assert not any(value.is_contiguous() for value in (*strided, apart))
    got = derivatives("cpu", SMALL, strided, apart, 2)
    assert_same(got, derivatives("cpu", SMALL, (x, weight), types, 2), 1e-13)


def test_every_element_is_written():
    """New arrays hold NaN: what is left of them would show."""
    spec = SPECS["a block that nothing leads to"]
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        results = list(derivatives("cpu", spec, *arguments(spec), 2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(result.isfinite().all() for result in results)


@each_dtype
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_every_instruction_set_gives_the_numbers_of_the_reference(instructions, dtype, tmp_path):
    if instructions not in list(INSTRUCTION_SETS)[list(INSTRUCTION_SETS).index(instruction_set()) :]:
        pytest.skip(f"this machine has no {instructions}")
    spec = SymmetricSpec.parse("11x0e+11x1o|2|11x0e+11x1o")  # of this test alone
    assert_like_reference(spec, 2, dtype=dtype)  # loads what belongs to this machine, to be replaced
    scalar, size = SCALARS[dtype]
    flags, compiler = INSTRUCTION_SETS[instructions], find_compiler()
    for order in (0, 1):
        source = cpu_source(spec, scalar, order, moving=order > 0)
        library = build_library(source, flags, compiler, CSRC, tmp_path)
        load_kernel(spec.text, size, library, kind="symmetric")
    assert_like_reference(spec, 2, dtype=dtype)


def operator_arguments(name: str, directions: int, *, moving: bool) -> tuple[object, ...]:
    (x, weight), types = arguments(SMALL, 4)
    grad = torch.randn(4, SMALL.irreps_out.dim, dtype=torch.float64, requires_grad=True)
    point = {"": (x, weight), "_backward": (grad, x, weight), "_derivative": (grad, x, weight)}[name]
    along = tuple(torch.randn(directions, *value.shape, dtype=torch.float64) for value in (grad, x, weight))
    if not moving:
        along = (*along[:2], along[2][:, :0])
    flags = () if name == "" else (True,)
    return *(along if name == "_derivative" else ()), *point, types, SMALL.text, *flags


@pytest.mark.parametrize(
    ("name", "directions", "moving"),
    [("", 0, False), ("_backward", 0, False), ("_derivative", 1, False), ("_derivative", 2, True)],
)
def test_operators_keep_their_contract(name, directions, moving):
    cpu.prepare(SMALL.text, torch.float64)
    cpu.prepare_order(SMALL.text, torch.float64, directions, moving)
    inputs = operator_arguments(name, directions, moving=moving)
    inputs = tuple(
        value.detach().requires_grad_()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for value in inputs
    )
    torch.library.opcheck(getattr(torch.ops.nequip, f"contract_symmetric{name}"), inputs)


def test_one_trace_of_the_gradient_serves_every_size():
    def gradient(x: torch.Tensor, weight: torch.Tensor, types: torch.Tensor) -> list[torch.Tensor]:
        x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
        out = contract_symmetric(x, weight, types, spec=SMALL, backend="cpu")
        return list(torch.autograd.grad(out.square().sum(), (x, weight)))

    arrays, types = arguments(SMALL)
    traced = make_fx(gradient, tracing_mode="symbolic")(*arrays, types)
    for atoms in (23, 40):
        arrays, types = arguments(SMALL, atoms)
        torch.testing.assert_close(traced(*arrays, types), gradient(*arrays, types))


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_model_contains_it_as_one_operator():
    arrays, types = arguments(SMALL)

    def energy(*values: torch.Tensor) -> torch.Tensor:
        return contract_symmetric(*values, types, spec=SMALL, backend="cpu").square().sum()

    compiled: Callable[..., torch.Tensor] = torch.compile(energy, fullgraph=True, backend="aot_eager")
    got, want = (torch.autograd.grad(f(*arrays), arrays) for f in (compiled, energy))
    assert_same(iter(got), iter(want), 1e-13)


def test_a_type_without_weights_is_told():
    (x, weight), types = arguments(SMALL)
    types[2] = 7
    with pytest.raises(KernelError, match=r"^contract_symmetric: types\[2\] is 7, but there are 4 rows"):
        contract_symmetric(x, weight, types, spec=SMALL, backend="cpu")


@pytest.mark.parametrize("wrong", range(3), ids=["grad", "x", "weight"])
def test_operators_name_what_does_not_fit(wrong):
    cpu.prepare(SMALL.text, torch.float64)
    inputs = list(operator_arguments("_backward", 0, moving=False))
    inputs[wrong] = inputs[wrong][:, 1:]
    with pytest.raises(RuntimeError, match=rf"{('grad', 'x', 'weight')[wrong]} is \["):
        torch.ops.nequip.contract_symmetric_backward(*inputs)


@pytest.mark.parametrize("wrong", range(3), ids=["along_grad", "along_x", "along_weight"])
def test_operators_name_directions_that_do_not_fit(wrong):
    cpu.prepare(SMALL.text, torch.float64)
    cpu.prepare_order(SMALL.text, torch.float64, 1, True)
    inputs = list(operator_arguments("_derivative", 1, moving=True))
    inputs[wrong] = inputs[wrong][:, 1:]
    with pytest.raises(RuntimeError, match=rf"{('along_grad', 'along_x', 'along_weight')[wrong]} is \["):
        torch.ops.nequip.contract_symmetric_derivative(*inputs)


def test_the_backend_names_the_precisions_that_it_has():
    (x, weight), types = arguments(SMALL, dtype=torch.float16)
    with pytest.raises(KernelError, match=r"float32 and float64, not in torch\.float16"):
        contract_symmetric(x, weight, types, spec=SMALL, backend="cpu")
