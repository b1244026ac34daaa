"""An evaluation with every kind of label, made up of numbers rather than of a potential."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from nequip.data.frame import Frame
from nequip.data.sources import MemorySource
from nequip.model.card import ModelCard, TrainingRecord
from nequip.plotting import style
from nequip.train.evaluation import Evaluation, Values

EvaluationMaker = Callable[..., Evaluation]


def make_evaluation(num_frames: int = 12, groups: tuple[str, ...] = ("gas", "solid")) -> Evaluation:
    """Frames of two to four atoms, H and O; the fourth has no forces, the fifth no energy."""
    rng = np.random.default_rng(0)
    sizes = 2 + np.arange(num_frames) % 3
    types = rng.integers(0, 2, sizes.sum())
    row_ptr = np.concatenate([[0], np.cumsum(sizes)])
    shape = (num_frames, (len(types), 3), (num_frames, 3, 3))
    reference = Values(
        *(rng.normal(0, scale, size) for scale, size in zip((1.0, 2.0, 0.02), shape, strict=True))
    )
    predicted = Values(*(values + rng.normal(0, 0.01, values.shape) for values in reference))
    reference.energy[4:5] = np.nan
    reference.forces[np.repeat(np.arange(num_frames), sizes) == 3] = np.nan
    reference.stress[::2] = np.nan
    frames = [
        Frame(np.array([1, 8])[types[start:stop]], rng.normal(0, 2, (stop - start, 3)))
        for start, stop in pairwise(row_ptr)
    ]
    return Evaluation(
        card=ModelCard(
            architecture="nequip",
            config={"num_layers": 3, "avg_num_neighbors": 7.123456789, "size": None},
            type_names=("H", "O"),
            r_max=4.5,
            training=TrainingRecord(data="water & <ice>.xyz", num_train=1000, num_val=50, epochs=7),
        ),
        source=MemorySource("water.xyz", frames, "fingerprint", []),
        group_names=groups,
        index=np.arange(num_frames),
        group=np.arange(num_frames) % len(groups),
        row_ptr=row_ptr,
        types=types,
        reference=reference,
        predicted=predicted,
        errors={
            "energy_mae": 0.03,
            "energy_per_atom_mae": 0.0082,
            "forces_mae": 0.0079,
            "forces_mae/H": 0.0081,
            "forces_mae/group=gas": 0.0077,
            "forces_mae/type_mean": 0.008,
            "stress_mae": 0.0004,
            "energy_per_atom_rmse": 0.0101,
            "forces_rmse": 0.0123,
        },
    )


@pytest.fixture(autouse=True)
def _coarse_pictures(monkeypatch) -> None:
    """A quarter of the pixels, in a quarter of the time."""
    monkeypatch.setattr(style, "DPI", 85)


@pytest.fixture
def evaluation() -> Evaluation:
    return make_evaluation()


@pytest.fixture
def evaluation_of() -> EvaluationMaker:
    return make_evaluation
