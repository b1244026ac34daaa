"""Linear maps between irreps: the operator against plain PyTorch, to third order."""

from __future__ import annotations

import pytest
import torch

from nequip.errors import KernelError
from nequip.kernels.linear import LinearSpec, map_irreps
from nequip.kernels.linear.cpu import prepare
from nequip.o3 import Irreps

SPECS = {
    "fills no vector": LinearSpec(Irreps("7x0e+3x1o+20x2e"), Irreps("5x0e+18x1o+1x2e+2x3o")),
    "fills vectors": LinearSpec(Irreps("32x0e+64x1o"), Irreps("40x0e+32x1o")),
    "nothing in common": LinearSpec(Irreps("3x0e"), Irreps("2x1o")),
}
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5}


def problem(spec: LinearSpec, atoms: int, num_types: int | None, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(2)
    x, weight = (
        torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()
        for shape in ((atoms, spec.irreps_in.dim), (num_types or 1, spec.num_weights))
    )
    types = None if num_types is None else torch.randint(0, num_types, (atoms,), generator=generator)
    return x, weight, types


def derivatives(backend: str, spec: LinearSpec, x, weight, types) -> list[torch.Tensor]:
    values = [map_irreps(x, weight, types, spec=spec, backend=backend)]
    results = list(values)
    for _ in range(3 if spec.matrices and len(x) else 0):
        total = sum(value.square().mean() for value in values)
        values = list(torch.autograd.grad(total, (x, weight), create_graph=True))
        results += values
    return results


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("num_types", [None, 1, 3])
@pytest.mark.parametrize("atoms", [0, 1, 23])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_agrees_with_the_reference_to_third_order(spec, atoms, num_types, dtype):
    arguments = problem(spec, atoms, num_types, dtype)
    expected = derivatives("reference", spec, *arguments)
    for got, want in zip(derivatives("cpu", spec, *arguments), expected, strict=True):
        assert got.shape == want.shape
        scale = float(want.detach().abs().max()) if want.numel() else 1.0
        torch.testing.assert_close(got, want, rtol=0, atol=10 * TOLERANCES[dtype] * max(scale, 1e-30))


def test_against_the_equation():
    spec = LinearSpec(Irreps("4x0e+3x1o"), Irreps("2x1o+5x0e"))
    x, weight, types = problem(spec, 6, 2)
    out = map_irreps(x, weight, types, spec=spec)
    scalars, vectors = weight[types].split([20, 6], dim=1)
    expected = torch.einsum("nu,nuv->nv", x[:, :4], scalars.view(-1, 4, 5)) / 2
    torch.testing.assert_close(out[:, 6:], expected)
    turned = torch.einsum("ncu,nuv->ncv", x[:, 4:].view(-1, 3, 3), vectors.view(-1, 3, 2)) / 3**0.5
    torch.testing.assert_close(out[:, :6], turned.flatten(1))


def test_threads_do_not_change_a_bit():
    spec = SPECS["fills no vector"]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(derivatives("cpu", spec, *problem(spec, 50, 3, torch.float32)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*results, strict=True))


def test_operators_pass_opcheck():
    spec = SPECS["fills no vector"]
    prepare()
    x, weight, types = problem(spec, 4, 3)
    torch.library.opcheck(torch.ops.nequip.map_irreps.default, (x, weight, types, spec.text, False))
    out = torch.randn(4, spec.irreps_out.dim, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.nequip.map_irreps.default, (out, weight, types, spec.text, True))
    torch.library.opcheck(torch.ops.nequip.map_irreps_weight.default, (x, out, types, 3, spec.text))


def test_wrong_arrays_are_named():
    spec = SPECS["fills vectors"]
    x, weight, types = problem(spec, 4, 2)
    with pytest.raises(KernelError, match=r"x is \[4, 5\]"):
        map_irreps(x[:, :5], weight, types, spec=spec)
    with pytest.raises(RuntimeError, match=r"types\[0\] is 7"):
        map_irreps(x, weight, torch.full((4,), 7), spec=spec, backend="cpu")
    for wrong in (torch.zeros(3, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)):
        with pytest.raises(KernelError, match="types is"):
            map_irreps(x, weight, wrong, spec=spec)
    with pytest.raises(KernelError, match="weight has 2 rows"):
        map_irreps(x, weight, None, spec=spec)
    for other in (weight.float(), weight.to("meta")):
        with pytest.raises(KernelError, match="weight is torch"):
            map_irreps(x, other, types, spec=spec)
    for text in ("", "3,3", "4,4,4;1,9,9,0,0,0", "4,4,x"):
        with pytest.raises(RuntimeError, match="the specification"):
            torch.ops.nequip.map_irreps(x, weight, types, text, False)
