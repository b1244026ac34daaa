"""The formulas of the symmetric contraction, and what torch.compile makes of them. Few and small ones."""

from __future__ import annotations

import pytest
import torch
from test_symmetric_cpu import arguments, assert_same, derivatives

from mace_ext.contraction import SymmetricSpec, compiled, contract_symmetric, reference
from mace_ext.contraction.formula import Formula
from mace_ext.contraction.points import Point, stack, unstack

# of torch, when it loads its own compiler
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

SMALL = SymmetricSpec.parse("2x0e+2x1o|2|2x0e+2x1o")
SPECS = [SymmetricSpec.parse(text) for text in ("3x0e+3x1o+3x2e|3|3x0e+3x1o", "2x0e+2x1o|1|2x1o")]


def points(spec: SymmetricSpec, types: torch.Tensor, directions: int, *, moving: bool) -> list[Point]:
    """A point and directions, which change weights or not."""
    generator = torch.Generator().manual_seed(5)
    shapes = (len(types), spec.irreps_out.dim), (len(types), spec.irreps_in.dim), (4, spec.num_weights)
    found = [
        Point(*(torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes))
        for _ in range(1 + directions)
    ]
    return [found[0], *(point if moving else point._replace(weight=None) for point in found[1:])]


def by_autograd(spec: SymmetricSpec, types: torch.Tensor, at: list[Point]) -> tuple[torch.Tensor, ...]:
    """The gradient of the derivative along the directions."""
    z = [value.clone().requires_grad_() for value in at[0]]
    value = (z[0] * reference.contract_symmetric(z[1], z[2], types, spec)).sum()
    for direction in at[1:]:
        slopes = torch.autograd.grad(value, z, create_graph=True)
        value = sum((s * v).sum() for s, v in zip(slopes, direction, strict=True) if v is not None)
    return torch.autograd.grad(value, z, materialize_grads=True)


@pytest.mark.parametrize(("directions", "moving"), [(0, False), (1, False), (1, True), (2, False), (2, True)])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_formulas_are_gradients_of_derivatives(spec, directions, moving):
    _, types = arguments(spec, 5)
    at = points(spec, types, directions, moving=moving)
    formula = Formula(spec, torch.float64, torch.device("cpu"))
    got = formula.by_grad(at, types), formula.by_features(at, types), formula.by_weight(at, types)
    for value, want in zip(got, by_autograd(spec, types, at), strict=True):
        torch.testing.assert_close(value, want, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("moving", [False, True])
def test_directions_come_back_as_they_were(moving):
    _, types = arguments(SMALL)
    point, *directions = points(SMALL, types, 2, moving=moving)
    for one, other in zip(directions, unstack(*stack(directions, point)), strict=True):
        assert (one.weight is None) == (other.weight is None) == (not moving)
        torch.testing.assert_close(one[:2], other[:2])


def test_gradients_are_those_of_the_reference_for_every_number_of_atoms():
    with torch._dynamo.config.patch(error_on_recompile=True):
        for atoms in (23, 7, 1, 0):
            problem = arguments(SMALL, atoms)
            results = (derivatives(name, SMALL, *problem, 1) for name in ("compiled", "reference"))
            assert_same(*results, 1e-12)


def test_second_derivatives_are_those_of_the_reference():
    results: list[torch.Tensor] = []
    for backend in ("compiled", "reference"):
        (x, weight), types = arguments(SMALL)
        energy = contract_symmetric(x, weight.detach(), types, spec=SMALL, backend=backend).square().sum()
        (forces,) = torch.autograd.grad(energy, x, create_graph=True)
        results.append(torch.autograd.grad(forces.square().sum(), x)[0])
    torch.testing.assert_close(*results, atol=1e-11, rtol=1e-12)


def test_the_operator_keeps_its_contract():
    compiled.prepare()
    arrays, types = arguments(SMALL, 4)
    torch.library.opcheck(torch.ops.nequip.contract_symmetric_compiled, (*arrays, types, SMALL.text))


def test_a_compiled_model_contains_it_as_one_operator():
    arrays, types = arguments(SMALL)

    def energy(*values: torch.Tensor) -> torch.Tensor:
        return contract_symmetric(*values, types, spec=SMALL, backend="compiled").square().sum()

    whole = torch.compile(energy, fullgraph=True, backend="aot_eager")(*arrays)
    got, want = (torch.autograd.grad(value, arrays) for value in (whole, energy(*arrays)))
    assert_same(iter(got), iter(want), 1e-12)
