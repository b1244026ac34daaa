"""Our representation theory against e3nn and against its own defining equations."""

import warnings

import pytest
import torch

from nequip.o3 import Irrep, Irreps, spherical_harmonics, wigner_3j, wigner_d


@pytest.fixture(scope="module")
def e3nn_o3():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from e3nn import o3
    return o3


@pytest.fixture
def improper() -> torch.Tensor:
    matrix, _ = torch.linalg.qr(
        torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    )
    return matrix if torch.linalg.det(matrix) < 0 else -matrix


def test_wigner_3j_equals_e3nn_in_value_and_sign(e3nn_o3):
    for l1 in range(5):
        for l2 in range(5):
            for l3 in range(abs(l1 - l2), l1 + l2 + 1):
                expected = e3nn_o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
                torch.testing.assert_close(wigner_3j(l1, l2, l3), expected, atol=1e-13, rtol=0)


def test_wigner_3j_is_zero_outside_the_triangle():
    assert wigner_3j(1, 1, 3).count_nonzero() == 0


def test_wigner_3j_is_invariant(improper):
    for l1, l2, l3 in [(1, 1, 1), (1, 2, 3), (2, 2, 2), (3, 4, 2)]:
        d1, d2, d3 = (wigner_d(improper, Irrep(degree, 1)) for degree in (l1, l2, l3))
        turned = torch.einsum("ijk,ia,jb,kc->abc", wigner_3j(l1, l2, l3), d1, d2, d3)
        torch.testing.assert_close(turned, wigner_3j(l1, l2, l3), atol=1e-12, rtol=0)


def test_spherical_harmonics_equal_e3nn(e3nn_o3):
    vectors = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(vectors, dim=1)
    expected = e3nn_o3.spherical_harmonics(list(range(6)), vectors, normalize=True, normalization="component")
    torch.testing.assert_close(spherical_harmonics(unit, 5), expected, atol=1e-12, rtol=0)


def test_spherical_harmonics_differentiate_to_third_order():
    vectors = torch.randn(
        4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
    )

    def second(v: torch.Tensor) -> torch.Tensor:
        unit = v / v.norm(dim=1, keepdim=True)
        first = torch.autograd.grad(spherical_harmonics(unit, 3).pow(3).sum(), v, create_graph=True)[0]
        return torch.autograd.grad(first.pow(2).sum(), v, create_graph=True)[0]

    assert torch.autograd.gradcheck(second, vectors)


def test_wigner_d_represents_products_and_parity(improper):
    odd, even = wigner_d(improper, Irrep(2, -1)), wigner_d(improper, Irrep(2, 1))
    torch.testing.assert_close(odd, -even)
    twice = wigner_d(improper @ improper, Irrep(2, 1))
    torch.testing.assert_close(even @ even, twice, atol=1e-10, rtol=0)


@pytest.mark.parametrize("text", ["32x0e+16x1o", "1x0o", "4x2e+4x2e", ""])
def test_irreps_round_trip_as_text(text):
    assert str(Irreps(text)) == text
    assert Irreps(str(Irreps(text))) == Irreps(text)


def test_irreps_know_their_layout():
    irreps = Irreps("4x0e+2x1o+3x1o")
    assert irreps.dim == 4 + 6 + 9
    assert [block.offset for block in irreps.blocks()] == [0, 4, 10]
    assert str(irreps.merged()) == "4x0e+5x1o"
    assert irreps.mul(Irrep(1, -1)) == 5
    assert Irrep(0, -1) < Irrep(0, 1) < Irrep(1, -1) < Irrep(1, 1)


def test_irreps_refuse_what_is_not_one():
    with pytest.raises(ValueError, match="3y"):
        Irreps("4x3y")
