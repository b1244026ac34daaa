from __future__ import annotations

import pytest

from nequip.data.neighbors import Cutoffs
from nequip.errors import ConfigError
from nequip.model.cutoffs import resolve_cutoffs
from nequip.model.registry import ModelConfig


def config(per_edge_type_cutoff) -> ModelConfig:
    return ModelConfig(type_names=("H", "C", "O"), r_max=5.0, per_edge_type_cutoff=per_edge_type_cutoff)


def test_without_a_table_only_r_max_holds():
    assert resolve_cutoffs(config(None)) == Cutoffs(5.0, None)


def test_one_number_applies_to_all_neighbors_of_the_center():
    assert resolve_cutoffs(config({"C": 4.0})).per_edge_type == (
        (5.0, 5.0, 5.0),
        (4.0, 4.0, 4.0),
        (5.0, 5.0, 5.0),
    )


def test_pairs_left_out_fall_back_to_r_max_and_order_matters():
    assert resolve_cutoffs(config({"H": {"O": 2.0}, "O": {"H": 3.0}})).per_edge_type == (
        (5.0, 5.0, 2.0),
        (5.0, 5.0, 5.0),
        (3.0, 5.0, 5.0),
    )


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"Cl": 3.0}, r"per_edge_type_cutoff names the type 'Cl' \(did you mean 'C'\?\)"),
        ({"C": {"h": 3.0}}, r"per_edge_type_cutoff\.C names the type 'h'"),
        ({"C": {"H": 6.0}}, r"per_edge_type_cutoff\.C\.H is 6\.0 Å.*r_max = 5\.0"),
        ({"C": 0.0}, r"per_edge_type_cutoff\.C\.H is 0\.0 Å"),
    ],
)
def test_mistakes_are_named(table, sentence):
    with pytest.raises(ConfigError, match=sentence):
        resolve_cutoffs(config(table))


def test_types_must_be_resolved():
    with pytest.raises(ConfigError, match=r"needs model\.type_names"):
        resolve_cutoffs(ModelConfig(per_edge_type_cutoff={"C": 4.0}))
