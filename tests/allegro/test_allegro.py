"""The Allegro model: presets, seeds, irreps, locality, and what its configuration refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from allegro.config import PRESETS, AllegroConfig
from allegro.embedding import SplineEmbedding
from allegro.irreps import layer_irreps
from allegro.model import build
from nequip.data.frame import Frame
from nequip.nn import pieces
from nequip.testing import predict

RESOLVED = {
    "type_names": ("H", "O"),
    "avg_num_neighbors": 10.0,
    "per_type_energy_scales": 1.0,
    "per_type_energy_shifts": 0.0,
    "dtype": "float64",
}
TINY = {"num_scalar_features": 4, "num_tensor_features": 2, "l_max": 1}


def config(**keys: object) -> AllegroConfig:
    return AllegroConfig.model_validate(RESOLVED | keys)


def chain(num_atoms: int) -> Frame:
    """Atoms 1 Å apart, a little out of line."""
    places = np.random.default_rng(1).normal(0, 0.1, (num_atoms, 3)) + np.outer(
        np.arange(num_atoms), [1, 0, 0]
    )
    return Frame(np.tile([1, 8], num_atoms)[:num_atoms], places)


@pytest.mark.parametrize("size", PRESETS)
def test_presets_have_their_shape(size):
    chosen = config(size=size)
    assert {key: getattr(chosen, key) for key in PRESETS[size]} == PRESETS[size]
    assert build(chosen).num_scalars == PRESETS[size]["num_scalar_features"]


def test_a_key_given_beside_the_size_wins():
    assert config(size="large", num_layers=2).num_layers == 2
    assert config(size="large", num_layers=2).l_max == 3


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    first = build(config(**TINY, seed=1))
    torch.manual_seed(6)
    again, other = build(config(**TINY, seed=1)), build(config(**TINY, seed=2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_scalar_features": 7}, "num_scalar_features is 7, but has to be even"),
        ({"radial_embedding_dim": 3}, "radial_embedding_dim is 3"),
        ({"radial_embedding": "spline", "num_splines": 8}, "spline_span=12 is more than num_splines=8"),
        ({"parity": "both"}, "parity"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        config(**keys)


def test_layers_keep_what_arises_and_is_of_use():
    assert [str(irreps) for irreps in layer_irreps(2, True, 4, 3)] == [
        "3x0e+3x1o+3x2e",
        "3x0e+3x1e+3x1o+3x2e+3x2o",  # no 0o: it would need a product of equal l and unlike parity
        "3x0e+3x1e+3x1o+3x2e+3x2o",  # 0o arises from 1e and 1o, and goes only to 1e and 2o by Y, too late
        "3x0e+3x1o+3x2e",  # what a product with harmonics makes scalars of
        "3x0e",
    ]


def test_without_parity_tensors_are_like_harmonics():
    assert {str(irreps) for irreps in layer_irreps(3, False, 3, 1)[:-1]} == {"1x0e+1x1o+1x2e+1x3o"}


def test_an_atom_s_energy_knows_nothing_beyond_the_cutoff():
    """However many layers: atom 0 sees 1 and 2, and not what those see."""
    potential = build(config(**TINY, num_layers=3, r_max=2.6)).eval()
    energies = (
        predict(potential, chain(4)).atomic_energies[0],
        predict(potential, chain(9)).atomic_energies[0],
    )
    torch.testing.assert_close(*energies, atol=1e-12, rtol=0)


def test_evaluation_in_pieces_gives_the_same(monkeypatch):
    potential = build(config(**TINY, r_max=3.0, avg_num_neighbors={"H": 3.0, "O": 5.0})).eval()
    whole = predict(potential, chain(30))
    monkeypatch.setattr(pieces, "PIECE", 20)
    for got, want in zip(predict(potential, chain(30)), whole, strict=True):
        torch.testing.assert_close(got, want, equal_nan=True)


@pytest.mark.parametrize("num_types", [2, 5])
def test_splines_of_few_and_of_many_pairs_of_types_are_the_sum_over_bumps(num_types):
    embedding = SplineEmbedding(num_types, 6, 4, 3, torch.float64)
    x = torch.linspace(0.01, 1.0, 50, dtype=torch.float64)
    pair = torch.arange(50) % num_types**2
    start, width = (torch.arange(6).double() - 4) / 6, 5 / 6
    place = (x[:, None] - start) / width
    bumps = torch.where((place > 0) & (place < 1), (1 - torch.cos(2 * torch.pi * place)) ** 2 / 4, 0.0)
    want = torch.einsum("ecn,en->ec", embedding.weight[pair], bumps)
    torch.testing.assert_close(embedding(x, pair), want)


def test_splines_vanish_at_the_cutoff():
    embedding = SplineEmbedding(1, 6, 4, 3, torch.float64)
    at_cutoff = embedding(torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(at_cutoff, torch.zeros_like(at_cutoff), atol=1e-12, rtol=0)
