"""Allegro's contraction by torch.compile. Each specification takes seconds to compile: few and small ones."""

from __future__ import annotations

import pytest
import torch
from test_contraction_cpu import arguments, assert_same, contraction, derivatives, graph, random

from allegro.contraction import ContractionSpec, compiled, environment, weighted_harmonics
from nequip.o3 import Irreps

# of torch, when it loads its own compiler
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")

SPEC = ContractionSpec.parse("2x0e+2x1o+2x3e|2x0e+2x1o|2x0e+2x0o+2x1o")  # 3e and 0o have no path
SIZES = [(6, 23), (9, 9), (2, 900), (4, 6), (1, 2), (2, 1), (3, 0), (0, 0)]


def test_graphs_of_every_size_are_compiled_for_once_and_give_what_the_reference_gives():
    with torch._dynamo.config.patch(error_on_recompile=True):
        for size in SIZES:
            edges = graph(*size)
            arrays = arguments(SPEC, edges)
            results = (
                derivatives(contraction(SPEC, edges, name), arrays, 3) for name in ("compiled", "reference")
            )
            assert_same(*results, 1e-10)


@pytest.mark.parametrize("sums", [True, False], ids=["environment", "weighted harmonics"])
def test_the_environment_and_what_it_sums(sums):
    edges, irreps = graph(), Irreps("2x0e+2x1o")
    arrays = random(torch.float64, (23, 4), (23, 4))

    def function(backend):
        if sums:
            return lambda *x: environment(*x, edges, irreps=irreps, backend=backend)
        return lambda *x: weighted_harmonics(*x, irreps=irreps, backend=backend)

    results = (derivatives(function(name), arrays, 2) for name in ("compiled", "reference"))
    assert_same(*results, 1e-10)


@pytest.mark.parametrize(
    "name", ["contract_compiled", "contract_compiled_backward", "contract_compiled_double_backward"]
)
def test_operators_keep_their_contract(name):
    edges = graph(4, 6)
    arrays = arguments(SPEC, edges)
    (grad,) = random(torch.float64, (len(edges.center), SPEC.irreps_out.dim))
    before = {"contract_compiled": (), "contract_compiled_backward": (grad,)}.get(name, (*arrays, grad))
    inputs = [value.detach().clone().requires_grad_() for value in (*before, *arrays)]
    compiled.prepare()
    torch.library.opcheck(getattr(torch.ops.nequip, name), (*inputs, edges.row_ptr, SPEC.text))
