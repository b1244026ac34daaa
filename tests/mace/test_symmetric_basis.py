"""The polynomials of the symmetric contraction: how many there are, equivariant, those of published files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mace_ext.contraction.basis import basis, project
from nequip.errors import CheckpointError
from nequip.o3 import Irrep, Irreps, wigner_d

GOLDEN = Path(__file__).parents[1] / "golden"
FEATURES = Irreps("1x0e+1x1o+1x2e+1x3o")
SCALAR, VECTOR, TENSOR = Irrep(0, 1), Irrep(1, -1), Irrep(2, 1)
CONTRACTIONS = "state/products.0.symmetric_contractions.contractions."


def evaluate(irrep: Irrep, order: int, x: np.ndarray) -> np.ndarray:
    """[path, component]."""
    monomials, coefficients = basis(FEATURES, irrep, order)
    return coefficients @ x[monomials].prod(axis=1)


@pytest.mark.parametrize(
    ("irrep", "order", "count"),
    [(SCALAR, 1, 1), (SCALAR, 2, 4), (SCALAR, 3, 8), (VECTOR, 3, 12), (TENSOR, 3, 14), (SCALAR, 4, 23)],
)
def test_there_are_as_many_as_symmetry_allows(irrep, order, count):
    monomials, coefficients = basis(FEATURES, irrep, order)
    assert coefficients.shape == (count, irrep.dim, len(monomials))


@pytest.mark.parametrize("irreps", ["1x0e+1x1o+1x2e+1x3o", "1x0e+1x1e+1x1o", "1x1o+1x1o+1x2e"])
@pytest.mark.parametrize("order", [2, 3])
def test_the_number_is_that_of_the_characters(irreps, order):
    """Multiplicities in the symmetric power, by averaging characters over rotations and the inversion."""
    irreps, angles = Irreps(irreps), (np.arange(4000) + 0.5) * np.pi / 4000

    def character(irrep: Irrep, parity: int, angle: np.ndarray) -> np.ndarray:
        terms = [np.cos(m * angle) for m in range(-irrep.l, irrep.l + 1)]
        return sum(terms) * (irrep.p if parity == -1 else 1)

    def power(n: int, parity: int) -> np.ndarray:
        """The character of n-fold repeated group elements: of g^n."""
        return sum(character(irrep, parity**n, n * angles) for _, irrep in irreps)

    weights = (1 - np.cos(angles)) / len(angles)
    for wanted in (SCALAR, VECTOR, TENSOR, Irrep(1, 1)):
        count = 0.0
        for parity in (1, -1):
            one, two, three = (power(n, parity) for n in (1, 2, 3))
            symmetric = {2: (one**2 + two) / 2, 3: (one**3 + 3 * one * two + 2 * three) / 6}[order]
            count += (weights * symmetric * character(wanted, parity, angles)).sum() / 2
        assert len(basis(irreps, wanted, order).coefficients) == round(count)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("irrep", [SCALAR, VECTOR, TENSOR], ids=str)
def test_polynomials_are_equivariant(irrep, order):
    generator = torch.Generator().manual_seed(order)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=generator))
    turn = torch.block_diag(*(wigner_d(rotation, each) for _, each in FEATURES)).numpy()
    x = np.random.default_rng(order).normal(size=16)
    want = evaluate(irrep, order, x) @ wigner_d(rotation, irrep).numpy().T
    np.testing.assert_allclose(evaluate(irrep, order, turn @ x), want, atol=1e-11)


def test_degree_one_is_the_features_themselves():
    x = np.random.default_rng(0).normal(size=16)
    np.testing.assert_array_equal(evaluate(TENSOR, 1, x), x[np.newaxis, 4:9])


def test_degree_two_scalars_are_squared_norms():
    x = np.random.default_rng(0).normal(size=16)
    norms = [part @ part / len(part) ** 0.5 for part in np.split(x, [1, 4, 9])]
    np.testing.assert_allclose(evaluate(SCALAR, 2, x)[:, 0], norms)


def published(name: str, block: int, order: int) -> np.ndarray:
    return np.load(GOLDEN / f"mace_{name}.npz")[f"{CONTRACTIONS}{block}.U_matrix_{order}"]


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("irrep", [SCALAR, VECTOR, TENSOR], ids=str)
def test_published_columns_are_sums_of_the_basis(irrep, order):
    stored = published("l2_residual", irrep.l, order)
    columns = project(stored, FEATURES, irrep)
    x = np.random.default_rng(order).normal(size=16)
    dense = stored if irrep.l > 0 else stored[np.newaxis]
    for _ in range(order):
        dense = np.einsum("mi...,i->m...", dense, x)
    np.testing.assert_allclose((columns @ evaluate(irrep, order, x)).T, dense, atol=1e-12)


def test_published_columns_span_the_whole_basis():
    columns = project(published("l2_residual", 1, 3), FEATURES, VECTOR)
    assert columns.shape == (51, 12)
    assert np.linalg.matrix_rank(columns) == 12


def test_columns_of_single_precision_are_taken():
    stored = published("l2_residual", 1, 3)
    exact, rounded = (project(array, FEATURES, VECTOR) for array in (stored, stored.astype(np.float32)))
    np.testing.assert_allclose(rounded, exact, atol=1e-6)


def test_damaged_columns_are_told():
    stored = published("l2_residual", 1, 2).copy()
    stored[0, 0, 0, 0] = 0.3
    with pytest.raises(CheckpointError, match=r"degree 2 of a contraction .* not equivariant"):
        project(stored, FEATURES, VECTOR)


@pytest.mark.parametrize("array", [np.zeros((3, 16, 9, 2)), np.zeros((16, 16, 2)), np.zeros((3, 2))], ids=str)
def test_columns_of_another_shape_are_told(array):
    with pytest.raises(CheckpointError, match="have the shape"):
        project(array, FEATURES, VECTOR)
