"""The convolution by torch.compile. Each specification takes seconds to compile: few and small ones."""

from __future__ import annotations

import pytest
import torch
from golden_files import Golden, golden_files
from test_convolve import assert_same, derivatives, problem, spec

from nequip.kernels.tensor_product import compiled, convolve

# of torch, when it loads its own compiler
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

SMALL = spec("2x0e+1x1o", "0e+1o", "0e+1o")
UNEVEN = spec("3x0e+2x1o+1x3e", "0e+1o", "0e+1o+1e")  # the last block leads nowhere
SIZES = [(5, 23, 7), (9, 9, 9), (2, 900, 3), (4, 6, 4), (1, 2, 1), (2, 1, 2), (3, 0, 3), (0, 0, 0)]


@pytest.mark.parametrize("spec", [SMALL, UNEVEN], ids=str)
def test_values_and_three_orders_equal_the_reference(spec):
    arrays, edges = problem(spec, torch.float64)
    assert_same(
        derivatives("compiled", spec, arrays, edges, 3),
        derivatives("reference", spec, arrays, edges, 3),
        1e-10,
    )


@pytest.mark.parametrize("spec", [SMALL, UNEVEN], ids=str)
def test_graphs_of_every_size_are_compiled_for_once(spec):
    with torch._dynamo.config.patch(error_on_recompile=True):
        for size in SIZES:
            arrays, edges = problem(spec, torch.float64, *size)
            assert_same(
                derivatives("compiled", spec, arrays, edges, 2),
                derivatives("reference", spec, arrays, edges, 2),
                1e-10,
            )


@pytest.mark.parametrize("order", [1, 2, 3])
def test_against_finite_differences(order):
    arrays, edges = problem(SMALL, torch.float64, 3, 4, 3)

    def derivative(*values: torch.Tensor) -> torch.Tensor:
        result = convolve(*values, edges, spec=SMALL, backend="compiled").square().sum()
        for _ in range(order - 1):
            grads = torch.autograd.grad(result, values, create_graph=True)
            result = sum(g.square().sum() for g in grads)
        return result

    assert torch.autograd.gradcheck(derivative, arrays)


@pytest.mark.parametrize("size", [(5, 23, 7), (1, 0, 1)])
@pytest.mark.parametrize("name", ["conv_compiled", "conv_compiled_backward", "conv_compiled_double_backward"])
def test_operators_keep_their_contract(name, size):
    arrays, edges = problem(SMALL, torch.float64, *size)
    along, _ = problem(SMALL, torch.float64, *size)
    grad = compiled.convolve(*arrays, edges, SMALL).detach().requires_grad_()
    before = {"conv_compiled": (), "conv_compiled_backward": (grad,)}.get(name, (*along, grad))
    torch.library.opcheck(getattr(torch.ops.nequip, name), (*before, *arrays, *edges, SMALL.text))


def test_arrays_need_not_be_contiguous():
    arrays, edges = problem(SMALL, torch.float64)
    strided = [a.detach().t().contiguous().t().requires_grad_() for a in arrays]
    assert not any(a.is_contiguous() for a in strided)
    got = derivatives("compiled", SMALL, strided, edges, 2)
    assert_same(got, derivatives("compiled", SMALL, arrays, edges, 2), 1e-12)


def test_a_compiled_model_contains_it_as_one_operator():
    arrays, edges = problem(SMALL, torch.float64)

    def energy(*values: torch.Tensor) -> torch.Tensor:
        return convolve(*values, edges, spec=SMALL, backend="compiled").square().sum()

    actual = torch.compile(energy, fullgraph=True, backend="aot_eager")(*arrays)
    assert_same(
        torch.autograd.grad(actual, arrays), torch.autograd.grad(energy(*arrays), arrays), tolerance=1e-12
    )


def test_a_golden_file():
    (path,) = (path for path in golden_files("nequip") if path.stem == "nequip_small")
    golden = Golden(path)
    golden.check_float64(golden.predict("ethanol", "float64", "compiled"), "ethanol")
