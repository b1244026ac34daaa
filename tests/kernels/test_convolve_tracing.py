"""The convolution inside compiled, traced and exported graphs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from test_tensor_product import problem
from torch.fx.experimental.proxy_tensor import make_fx

from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import TensorProductSpec, convolve
from nequip.kernels.tensor_product.tabulated import convolve_tabulated
from nequip.o3 import Irreps, spherical_harmonics

SPEC = TensorProductSpec.full(Irreps("3x0e+2x1o"), Irreps("0e+1o"), Irreps("0e+1o"))
ops = torch.ops.nequip


System = tuple[torch.Tensor, torch.Tensor, Edges]  # positions, features, edges


def system(atoms: int, edges: int, spec: TensorProductSpec = SPEC) -> System:
    torch.manual_seed(0)
    x, *_, edge_index = problem(spec, atoms, edges)
    return torch.randn(atoms, 3, dtype=x.dtype), x, edge_index


def potential(spec: TensorProductSpec):
    """A function that gives energy and forces; the forces can be differentiated again, as in training."""

    def energy_and_forces(positions: torch.Tensor, x: torch.Tensor, edges: Edges):
        positions = positions.requires_grad_()
        vectors = positions[edges.neighbor] - positions[edges.center] + 0.1
        weight = vectors.square().sum(1, keepdim=True).expand(-1, spec.num_weights)
        out = convolve(x, spherical_harmonics(vectors, 1), weight, edges, spec=spec, backend="cpu")
        energy = out.square().sum()
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
        return energy, -gradient

    return energy_and_forces


def force_loss(function, positions: torch.Tensor, x: torch.Tensor, edges: Edges) -> list[torch.Tensor]:
    """The loss of a training step on forces, and its gradient by the features."""
    x = x.clone().requires_grad_()
    _, forces = function(positions, x, edges)
    loss = forces.square().sum()
    return [loss, *torch.autograd.grad(loss, x)]


def assert_equal(actual, expected) -> None:
    torch.testing.assert_close(list(actual), list(expected), atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize(("atoms", "edges"), [(4, 6), (1, 0)])
@pytest.mark.parametrize("name", ["conv", "conv_backward", "conv_double_backward"])
def test_operators_keep_their_contract(name, atoms, edges):
    x, sh, weight, index = problem(SPEC, atoms, edges)
    grad = torch.randn(atoms, SPEC.irreps_out.dim, dtype=x.dtype)
    values = {"conv": (), "conv_backward": (grad,), "conv_double_backward": (x, sh, weight, grad)}[name]
    inputs = [value.clone().requires_grad_() for value in (*values, x, sh, weight)]
    convolve(*inputs[-3:], index, spec=SPEC, backend="cpu")  # loads the operators
    torch.library.opcheck(getattr(ops, name), (*inputs, *index, SPEC.text))


def test_operators_of_tables_keep_their_contract():
    x, sh, _, index = problem(SPEC, 4, 6)
    position = torch.rand(6, dtype=x.dtype)
    knots = torch.randn(3, 3, SPEC.num_weights, dtype=x.dtype)
    convolve_tabulated(x, sh, position, knots, index, spec=SPEC, backend="cpu")
    grad = torch.randn(4, SPEC.irreps_out.dim, dtype=x.dtype)
    torch.library.opcheck(ops.conv_table_backward, (grad, x, sh, position, knots, *index, SPEC.text))
    inputs = [value.requires_grad_() for value in (x, sh, position)]
    torch.library.opcheck(ops.conv_table, (*inputs, knots, *index, SPEC.text))


FIRST_CALL = """
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import TensorProductSpec, convolve
from nequip.o3 import Irreps

spec = TensorProductSpec.full(Irreps("2x0e+2x1o"), Irreps("0e+1o"), Irreps("0e+1o"))
center = torch.tensor([0, 1, 1])
edges = Edges(center, center.flip(0), torch.tensor([0, 1, 3]), torch.tensor([2, 0, 1]))
values = torch.randn(2, 8), torch.randn(3, 4), torch.randn(3, 8)

class Sum(torch.nn.Module):
    def forward(self, x, sh, weight, edges):
        return convolve(x, sh, weight, edges, spec=spec, backend="cpu")

def gradient(x, sh, weight, edges):
    values = [value.requires_grad_() for value in (x, sh, weight)]
    return torch.autograd.grad(Sum()(*values, edges).square().sum(), values)

def check(transformed, plain):
    actual, expected = transformed(*values, edges), plain(*values, edges)
    assert all(type(value) is torch.Tensor for value in (*actual, *expected))
    torch.testing.assert_close(actual, expected)
"""
TRANSFORMS = {
    "compiled": """
compiled = torch.compile(Sum(), fullgraph=True, backend="aot_eager")
def compiled_gradient(*arguments):
    inputs = [value.requires_grad_() for value in arguments[:3]]
    return torch.autograd.grad(compiled(*inputs, edges).square().sum(), inputs)
check(compiled_gradient, gradient)
""",
    "traced": "check(make_fx(gradient, tracing_mode='symbolic')(*values, edges), gradient)",
    "exported": "check(torch.export.export(Sum(), (*values, edges)).module(), Sum())",
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS.keys())
def test_the_first_call_of_a_process_may_be_a_trace_and_leaves_nothing_behind(transform):
    subprocess.run([sys.executable, "-c", FIRST_CALL + transform], check=True)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("mode", ["real", "symbolic"])
def test_a_trace_looks_at_no_numbers(mode, backend):
    def total(x, sh, weight, edges):
        return convolve(x, sh, weight, edges, spec=SPEC, backend=backend)

    traced = make_fx(total, tracing_mode=mode)(*problem(SPEC, 5, 7))
    x, sh, weight, edges = problem(SPEC, 5, 7)
    last_row = torch.full_like(edges.center, 4)
    moved = edges._replace(center=last_row, row_ptr=torch.tensor([0, 0, 0, 0, 0, 7]))
    assert_equal(traced(x, sh, weight, moved), total(x, sh, weight, moved))


def test_one_compiled_graph_serves_every_size():
    def total(x, sh, weight, edges):
        return convolve(x, sh, weight, edges, spec=SPEC, backend="cpu")

    compiled = torch.compile(total, fullgraph=True, backend="aot_eager", dynamic=True)
    compiled(*problem(SPEC, 5, 7))  # sizes that equal no number of columns: equal ones are taken for one
    with torch._dynamo.config.patch(error_on_recompile=True):
        for size in ((8, 20), (3, 2)):
            assert_equal(compiled(*problem(SPEC, *size)), total(*problem(SPEC, *size)))


def test_traced_forces_are_exported_for_any_number_of_atoms_and_edges():
    traced = make_fx(potential(SPEC), tracing_mode="symbolic")(*system(4, 6))
    dynamic = {0: torch.export.Dim.DYNAMIC}
    shapes = (dynamic, dynamic, Edges(dynamic, dynamic, dynamic, dynamic))
    program = torch.export.export(traced, system(4, 6), dynamic_shapes=shapes).module()
    for size in ((4, 6), (7, 20), (9, 3)):
        assert_equal(program(*system(*size)), potential(SPEC)(*system(*size)))
        assert_equal(force_loss(program, *system(*size)), force_loss(potential(SPEC), *system(*size)))


def test_traced_forces_are_compiled_with_their_gradient():
    traced = make_fx(potential(SPEC), tracing_mode="symbolic")(*system(4, 6))
    compiled = torch.compile(traced, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((4, 6), (7, 20)):
        assert_equal(force_loss(compiled, *system(*size)), force_loss(potential(SPEC), *system(*size)))


def test_a_traced_gradient_has_loaded_what_its_own_gradient_runs():
    # What torch.compile finds in its cache comes with its derivatives: our formulas are not called.
    spec = TensorProductSpec.full(Irreps("2x0e+1x1o"), Irreps("0e+1o"), Irreps("0e+1o"))
    positions, x, edges = system(4, 6, spec)
    make_fx(potential(spec), tracing_mode="symbolic")(positions, x, edges)
    _, sh, weight, _ = problem(spec, 4, 6)
    grad = torch.randn(4, spec.irreps_out.dim, dtype=x.dtype)
    derivatives = ops.conv_double_backward(x, sh, weight, grad, x, sh, weight, *edges, spec.text)
    assert derivatives[0].shape == grad.shape
