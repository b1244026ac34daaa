"""A saved potential with weights that nobody trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from nequip.model.nequip import NequIPConfig
from nequip.model.registry import build_potential


def save_potential(path: Path, **changes) -> Path:
    config = NequIPConfig(
        type_names=("H", "C", "O"),
        r_max=3.0,
        num_layers=1,
        num_features=4,
        radial_mlp_width=8,
        avg_num_neighbors=5.0,
        per_type_energy_scales=1.0,
        per_type_energy_shifts=-10.0,
    )
    build_potential(config.model_copy(update=changes)).save(path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """H, C and O."""
    return save_potential(tmp_path_factory.mktemp("model") / "model.nequip")


@pytest.fixture(scope="session")
def energy_model(tmp_path_factory) -> Path:
    """The same, for energies only."""
    return save_potential(tmp_path_factory.mktemp("model") / "energy.nequip", energy_only=True)
