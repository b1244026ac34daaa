"""The convolution against its equation written out as loops, and its derivatives."""

from __future__ import annotations

import subprocess
import sys
from math import sqrt

import pytest
import torch

from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import TensorProductSpec, convolve, reference
from nequip.o3 import Irrep, Irreps, wigner_3j

SPECS = {
    "scalars": TensorProductSpec.full(Irreps("5x0e"), Irreps("0e+1o"), Irreps("0e+1o")),
    "both parities": TensorProductSpec.full(
        Irreps("4x0e+4x1o+4x1e+4x2e"), Irreps("0e+1o+2e"), Irreps("0o+0e+1o+1e+2e")
    ),
    "uneven channels": TensorProductSpec.full(
        Irreps("7x0e+3x1o+2x2e"), Irreps("0e+1o+2e+3o"), Irreps("0e+1o+2e+3o")
    ),
    "a block that leads nowhere": TensorProductSpec.full(Irreps("3x0e+2x3e"), Irreps("0e+1o"), Irreps("0e")),
}


def problem(
    spec: TensorProductSpec, atoms: int, edges: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Edges]:
    generator = torch.Generator().manual_seed(0)
    center = torch.randint(0, max(atoms, 1), (edges,), generator=generator).sort().values
    neighbor = torch.randint(0, max(atoms, 1), (edges,), generator=generator)
    row_ptr = torch.cat(
        [torch.zeros(1, dtype=torch.int64), torch.bincount(center, minlength=atoms).cumsum(0)]
    )
    x, sh, weight = (
        torch.randn(rows, width, dtype=torch.float64, generator=generator)
        for rows, width in (
            (atoms, spec.irreps_in.dim),
            (edges, spec.irreps_sh.dim),
            (edges, spec.num_weights),
        )
    )
    return x, sh, weight, Edges(center, neighbor, row_ptr, neighbor.argsort(stable=True))


def written_out(
    x: torch.Tensor, sh: torch.Tensor, weight: torch.Tensor, edges: Edges, spec: TensorProductSpec
):
    """The equation of README.md, path by path and edge by edge."""
    blocks, harmonics = spec.irreps_in.blocks(), spec.irreps_sh.blocks()
    outputs: list[list[torch.Tensor]] = []
    column = 0
    for path in spec.paths:
        block, harmonic = blocks[path.block_in], harmonics[path.block_sh]
        w = weight[:, column : column + block.mul]
        column += block.mul
        coupling = sqrt(path.irrep_out.dim) * wigner_3j(block.irrep.l, harmonic.irrep.l, path.irrep_out.l)
        out = torch.zeros(len(x), path.irrep_out.dim, block.mul, dtype=x.dtype)
        for e, (n, m) in enumerate(zip(edges.center, edges.neighbor, strict=True)):
            features = x[m, block.slice].view(block.irrep.dim, block.mul)
            out[n] += w[e] * torch.einsum("abc,au,b->cu", coupling, features, sh[e, harmonic.slice])
        outputs.append([out])
    merged = []
    for _, irrep in spec.irreps_out:
        members = [outputs[p][0] for p in spec.output_order if spec.paths[p].irrep_out == irrep]
        merged.append(torch.cat(members, dim=2).flatten(1))
    return torch.cat(merged, dim=1)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
@pytest.mark.parametrize(("atoms", "edges"), [(6, 20), (1, 0), (4, 0), (3, 1)])
def test_equals_the_equation(spec, atoms, edges):
    arguments = problem(spec, atoms, edges)
    actual = convolve(*arguments, spec=spec)
    torch.testing.assert_close(actual, written_out(*arguments, spec), atol=1e-12, rtol=0)


def test_more_edges_than_one_chunk():
    spec = SPECS["uneven channels"]
    arguments = problem(spec, 20, reference.CHUNK + 7)
    torch.testing.assert_close(
        convolve(*arguments, spec=spec), written_out(*arguments, spec), atol=1e-11, rtol=0
    )


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives(order):
    spec = TensorProductSpec.full(Irreps("2x0e+1x1o"), Irreps("0e+1o"), Irreps("0e+1o"))
    x, sh, weight, edges = problem(spec, 3, 4)
    inputs = [value.requires_grad_() for value in (x, sh, weight)]

    def derivative(*values: torch.Tensor) -> torch.Tensor:
        # squares, since a sum that is linear in each argument alone would lose its higher derivatives
        result = convolve(*values, edges, spec=spec).square().sum()
        for _ in range(order - 1):
            grads = torch.autograd.grad(result, values, create_graph=True)
            result = sum(g.square().sum() for g in grads)
        return result

    assert torch.autograd.gradcheck(derivative, inputs)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_spec_round_trips_as_text(spec):
    again = TensorProductSpec.parse(str(spec))
    assert again == spec
    assert hash(again) == hash(spec)


def test_outputs_are_sorted_and_merged():
    spec = SPECS["both parities"]
    assert [irrep for _, irrep in spec.irreps_out] == [
        Irrep(0, -1),
        Irrep(0, 1),
        Irrep(1, -1),
        Irrep(1, 1),
        Irrep(2, 1),
    ]
    assert spec.num_weights == 4 * len(spec.paths)


TRACE_FIRST = """
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import TensorProductSpec, convolve
from nequip.o3 import Irreps, spherical_harmonics

spec = TensorProductSpec.full(Irreps("2x0e+2x1o"), Irreps("0e+1o+2e"), Irreps("0e+1o"))
center = torch.tensor([0, 1, 1])
edges = Edges(center, center.flip(0), torch.tensor([0, 1, 3]), torch.tensor([0, 1, 2]))
x, unit, weight = torch.ones(2, 8), torch.eye(3), torch.ones(3, spec.num_weights)

def energy(x, unit, weight, edges):
    return convolve(x, spherical_harmonics(unit, 2), weight, edges, spec=spec).sum()

traced = make_fx(energy, tracing_mode="symbolic")(x, unit, weight, edges)(x, unit, weight, edges)
assert torch.equal(traced, energy(x, unit, weight, edges)), "what a trace made outlives it"
assert traced.abs() > 0.1
"""


def test_a_trace_leaves_nothing_behind():
    subprocess.run([sys.executable, "-c", TRACE_FIRST], check=True)
