"""Layers that mix channels keep the symmetry of their features, and their variance at the start."""

from __future__ import annotations

import pytest
import torch

from nequip.errors import ConfigError
from nequip.kernels.linear.reference import MANY_TYPES
from nequip.nn.gate import Gate
from nequip.nn.linear import ElementLinear, IrrepsLinear, TypeLinear
from nequip.nn.mlp import NONLINEARITIES, ScalarMLP
from nequip.nn.norm import RMSNorm
from nequip.nn.per_type import per_type_tensor
from nequip.o3 import Irreps, wigner_d

HIDDEN = Irreps("6x0o+5x0e+4x1o+3x1e+2x2e")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def improper() -> torch.Tensor:
    matrix, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    return matrix if torch.linalg.det(matrix) < 0 else -matrix


def turn(x: torch.Tensor, irreps: Irreps, matrix: torch.Tensor) -> torch.Tensor:
    """Features after a rotation of space; blocks are [component, channel]."""
    turned = []
    for block in irreps.blocks():
        values = x[:, block.slice].unflatten(1, (block.irrep.dim, block.mul))
        turned.append(torch.einsum("mn,anu->amu", wigner_d(matrix, block.irrep), values).flatten(1))
    return torch.cat(turned, dim=1)


def layers():
    gate = Gate(Irreps("5x0e+6x0o+4x1o+2x2e"))
    types, embedding = torch.tensor([0, 1, 1]), torch.randn(2, 3, dtype=torch.float64)
    linear = IrrepsLinear(HIDDEN, Irreps("3x0e+2x1o+1x3o"), torch.float64)
    per_type = TypeLinear(HIDDEN, 3, Irreps("3x0e+2x1o+1x3o"), torch.float64)
    biased = IrrepsLinear(HIDDEN, Irreps("3x0o+2x0e+2x1o"), torch.float64, bias=True)
    torch.nn.init.normal_(biased.bias)
    per_element = ElementLinear(2, HIDDEN, Irreps("3x0e+2x1o+1x3o"), torch.float64)
    norm = RMSNorm(HIDDEN, torch.float64)
    return [
        pytest.param(linear, linear.spec.irreps_in, linear.spec.irreps_out, id="IrrepsLinear"),
        pytest.param(
            lambda x: per_type(x, types, embedding), HIDDEN, per_type.spec.irreps_out, id="TypeLinear"
        ),
        pytest.param(biased, HIDDEN, biased.spec.irreps_out, id="IrrepsLinear with a bias"),
        pytest.param(
            lambda x: per_element(x, types), HIDDEN, per_element.spec.irreps_out, id="ElementLinear"
        ),
        pytest.param(norm, HIDDEN, HIDDEN, id="RMSNorm"),
        pytest.param(gate, gate.irreps_in, gate.irreps_out, id="Gate"),
    ]


@pytest.mark.parametrize(("layer", "irreps_in", "irreps_out"), layers())
def test_equivariant_under_improper_rotations(layer, irreps_in, irreps_out, improper):
    x = torch.randn(3, irreps_in.dim, dtype=torch.float64)
    torch.testing.assert_close(
        layer(turn(x, irreps_in, improper)), turn(layer(x), irreps_out, improper), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize("num_types", [3, MANY_TYPES + 1])
def test_type_linear_is_the_fully_connected_product(num_types):
    irreps = Irreps("4x0e+3x1o")
    layer = TypeLinear(irreps, 5, irreps, torch.float64)
    x, types = torch.randn(6, irreps.dim, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    embedding = torch.randn(num_types, 5, dtype=torch.float64)
    scalars = embedding[types]
    expected = torch.einsum("au,ak,ukw->aw", x[:, :4], scalars, layer.weights["0e"]) / (4 * 5) ** 0.5
    torch.testing.assert_close(layer(x, types, embedding)[:, :4], expected)


def test_scalar_mlp_keeps_the_variance_of_order_one():
    out = ScalarMLP([64, 256, 256, 64], torch.float64)(torch.randn(4096, 64, dtype=torch.float64))
    assert 0.3 < out.var().item() < 1.5


def test_weights_lie_in_the_order_of_the_irreps():
    layer = IrrepsLinear(HIDDEN, HIDDEN, torch.float64)
    assert list(layer.weights) == ["0o", "0e", "1o", "1e", "2e"]


@pytest.mark.parametrize(
    ("value", "words"), [({"H": 1.0, "Oo": 2.0}, "did you mean 'O'"), ({"H": 1.0}, "no value for O")]
)
def test_per_type_numbers_name_what_is_wrong(value, words):
    with pytest.raises(ConfigError, match=words):
        per_type_tensor(value, ("H", "O"), default=0.0, key="model.shifts")


def test_a_bias_is_added_to_even_scalars():
    layer = IrrepsLinear(HIDDEN, HIDDEN, torch.float64, bias=True)
    x = torch.randn(2, HIDDEN.dim, dtype=torch.float64)
    before = layer(x)
    torch.nn.init.ones_(layer.bias)
    added = (layer(x) - before)[0].round(decimals=9)
    assert added.tolist() == [0] * 6 + [1] * 5 + [0] * (HIDDEN.dim - 11)


def test_element_linear_is_the_fully_connected_product_with_one_hot_types():
    irreps, types = Irreps("4x0e+3x1o"), torch.tensor([0, 1, 2, 2, 1, 0])
    layer = ElementLinear(3, irreps, irreps, torch.float64)
    product = TypeLinear(irreps, 3, irreps, torch.float64)
    product.load_state_dict({key: value.transpose(0, 1) for key, value in layer.state_dict().items()})
    x = torch.randn(6, irreps.dim, dtype=torch.float64)
    torch.testing.assert_close(layer(x, types), product(x, types, torch.eye(3, dtype=torch.float64)))


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_every_nonlinearity_can_be_asked_for(name):
    network = ScalarMLP([2, 3, 1], torch.float64, name)
    x = torch.randn(4, 2, dtype=torch.float64)
    hidden = x @ network.weights[0] / 2**0.5
    expected = NONLINEARITIES[name](hidden) @ network.weights[1] * (2 / 3) ** 0.5
    torch.testing.assert_close(network(x), expected)
