"""Allegro's two sums over edges: against plain loops, symmetric, and differentiable to second order."""

from __future__ import annotations

from math import sqrt

import pytest
import torch

from allegro.contraction import ContractionSpec, contract, environment
from nequip.errors import KernelError
from nequip.kernels.edges import Edges
from nequip.o3 import Irreps, split, wigner_3j, wigner_d

SPECS = {
    "one parity": "3x0e+3x1o+3x2e|3x0e+3x1o+3x2e|3x0e+3x1o+3x2e",
    "both parities": "2x0e+2x1e+2x1o|2x0e+2x1o+2x2e|2x0e+2x0o+2x1e+2x1o+2x2e+2x2o",
    "scalars": "4x0e+4x1o+4x2e+4x3o|4x0e+4x1o+4x2e+4x3o|4x0e",
    "one path": "1x0e|1x0e|1x0e",
}
each_spec = pytest.mark.parametrize("spec", [ContractionSpec.parse(t) for t in SPECS.values()], ids=SPECS)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def ring(num_atoms: int) -> Edges:
    """Every atom with its two neighbors, the last atom with none."""
    center = torch.arange(num_atoms - 1).repeat_interleave(2)
    neighbor = (center + torch.tensor([1, -1]).repeat(num_atoms - 1)) % (num_atoms - 1)
    row_ptr = torch.tensor([*range(0, 2 * num_atoms - 1, 2), 2 * num_atoms - 2])
    return Edges(center, neighbor, row_ptr, neighbor.argsort(stable=True))


def arguments(spec: ContractionSpec, edges: Edges) -> tuple[torch.Tensor, ...]:
    """Tensors, environments and weights."""
    count, rows = len(edges.center), len(edges.row_ptr) - 1
    shapes = [(count, spec.irreps_in.dim), (rows, spec.irreps_env.dim), (len(spec.paths), spec.channels)]
    return tuple(random(*shape) for shape in shapes)


def blocks(x: torch.Tensor, irreps: Irreps) -> list[torch.Tensor]:
    parts = split(x, [mul * irrep.dim for mul, irrep in irreps])
    return [part.reshape(len(x), irrep.dim, mul) for part, (mul, irrep) in zip(parts, irreps, strict=True)]


@each_spec
def test_contract_is_the_sum_over_paths(spec):
    edges = ring(5)
    tensors, env, weight = arguments(spec, edges)
    lefts, rights = blocks(tensors, spec.irreps_in), blocks(env[edges.center], spec.irreps_env)
    want = [torch.zeros(len(tensors), irrep.dim, mul, dtype=torch.float64) for mul, irrep in spec.irreps_out]
    for path, w in zip(spec.paths, weight, strict=True):
        ends = ((spec.irreps_in, 0), (spec.irreps_env, 1), (spec.irreps_out, 2))
        l1, l2, l3 = (irreps.terms[path[place]][1].l for irreps, place in ends)
        coupling = sqrt(2 * l3 + 1) * wigner_3j(l1, l2, l3)
        left, right = lefts[path.block_in], rights[path.block_env]
        want[path.block_out] += torch.einsum("abc,eau,ebu,u->ecu", coupling, left, right, w)
    got = contract(tensors, env, weight, edges, spec=spec)
    torch.testing.assert_close(got, torch.cat([block.flatten(1) for block in want], dim=1))


def test_environment_is_the_sum_over_neighbors():
    edges, irreps = ring(5), Irreps("3x0e+3x1o")
    sh, weight = random(8, 4), random(8, 6)
    want = torch.zeros(5, 12, dtype=torch.float64)
    for edge, center in enumerate(edges.center.tolist()):
        scalar, vector = sh[edge, :1, None] * weight[edge, :3], sh[edge, 1:, None] * weight[edge, 3:]
        want[center] += torch.cat([scalar.flatten(), vector.flatten()])
    torch.testing.assert_close(environment(sh, weight, edges, irreps=irreps), want)


@each_spec
@pytest.mark.parametrize("determinant", [1, -1])
def test_contract_is_equivariant(spec, determinant):
    rotation, _ = torch.linalg.qr(random(3, 3))
    rotation = rotation * determinant * rotation.det().sign()

    def turn(x: torch.Tensor, irreps: Irreps) -> torch.Tensor:
        turned = [
            torch.einsum("ab,ebu->eau", wigner_d(rotation, irrep), part).flatten(1)
            for part, (_, irrep) in zip(blocks(x, irreps), irreps, strict=True)
        ]
        return torch.cat(turned, dim=1)

    edges = ring(5)
    tensors, env, weight = arguments(spec, edges)
    want = turn(contract(tensors, env, weight, edges, spec=spec), spec.irreps_out)
    got = contract(turn(tensors, spec.irreps_in), turn(env, spec.irreps_env), weight, edges, spec=spec)
    torch.testing.assert_close(got, want)


def test_the_number_of_edges_at_a_time_changes_nothing(monkeypatch):
    spec, edges = ContractionSpec.parse(SPECS["both parities"]), ring(9)
    inputs = arguments(spec, edges)
    harmonics = (random(16, 9), random(16, 6))
    whole = contract(*inputs, edges, spec=spec), environment(*harmonics, edges, irreps=spec.irreps_env)
    monkeypatch.setattr("nequip.kernels.tensor_product.reference.CHUNK", 3)
    pieces = contract(*inputs, edges, spec=spec), environment(*harmonics, edges, irreps=spec.irreps_env)
    torch.testing.assert_close(pieces, whole)


def test_both_are_differentiable_twice():
    spec, edges = ContractionSpec.parse(SPECS["both parities"]), ring(3)
    inputs = [x.requires_grad_() for x in arguments(spec, edges)]
    assert torch.autograd.gradgradcheck(lambda *x: contract(*x, edges, spec=spec), inputs)
    harmonics = [x.requires_grad_() for x in (random(4, 9), random(4, 6))]
    assert torch.autograd.gradgradcheck(lambda *x: environment(*x, edges, irreps=spec.irreps_env), harmonics)


def test_no_edges_give_empty_environments():
    none = torch.zeros(0, dtype=torch.int64)
    edges, spec = (
        Edges(none, none, torch.zeros(3, dtype=torch.int64), none),
        ContractionSpec.parse(SPECS["scalars"]),
    )
    env = environment(random(0, 16), random(0, 16), edges, irreps=spec.irreps_env)
    assert env.shape == (2, 64)
    assert not env.any()
    assert contract(random(0, 64), env, random(4, 4), edges, spec=spec).shape == (0, 4)


@each_spec
def test_the_text_of_a_spec_gives_it_again(spec):
    again = ContractionSpec.parse(str(spec))
    assert (again, hash(again), again.paths) == (spec, hash(spec), spec.paths)


def test_paths_are_ordered_by_output_then_input_then_environment():
    spec = ContractionSpec.parse("1x0e+1x1o|1x0e+1x1o|1x0e+1x1o")
    assert spec.paths == ((0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1))


@pytest.mark.parametrize(("wrong", "name"), [(0, "tensors"), (1, "env"), (2, "weight")])
def test_an_array_of_another_shape_is_named(wrong, name):
    spec, edges = ContractionSpec.parse(SPECS["scalars"]), ring(4)
    inputs = list(arguments(spec, edges))
    inputs[wrong] = inputs[wrong][:, :-1]
    with pytest.raises(KernelError, match=rf"^{name} has the shape"):
        contract(*inputs, edges, spec=spec)


def test_a_backend_that_there_is_not_is_refused():
    spec, edges = ContractionSpec.parse(SPECS["one path"]), ring(4)
    with pytest.raises(KernelError, match="no backend 'tritium'"):
        contract(*arguments(spec, edges), edges, spec=spec, backend="tritium")
