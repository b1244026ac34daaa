from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from nequip.plotting import parity
from nequip.plotting.parity import error_plots, parity_plots, quantities
from nequip.train.evaluation import Values


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def by_name(evaluation):
    return {pairs.name: pairs for pairs in quantities(evaluation)}


def test_only_what_both_sides_have_is_compared(evaluation):
    pairs = by_name(evaluation)
    without_forces = evaluation.num_atoms[3]
    assert len(pairs["energy"].error) == 11
    assert len(pairs["forces"].error) == 3 * (len(evaluation.types) - without_forces)
    assert len(pairs["stress"].error) == 9 * 6


def test_errors_are_those_of_the_evaluation(evaluation):
    pairs = by_name(evaluation)
    labelled = np.isfinite(evaluation.energy_error)
    np.testing.assert_allclose(pairs["energy"].error, evaluation.energy_error[labelled], atol=1e-12)
    difference = evaluation.predicted.forces - evaluation.reference.forces
    np.testing.assert_allclose(pairs["forces"].error, difference[np.isfinite(difference)])


def test_energies_are_shown_without_what_the_composition_explains(evaluation):
    offsets = np.array([-13.6, -2000.0])
    counts = np.stack(
        [np.bincount(t, minlength=2) for t in np.split(evaluation.types, evaluation.row_ptr[1:-1])]
    )

    def shifted(values: Values) -> Values:
        return values._replace(energy=values.energy + counts @ offsets)

    heavy = replace(
        evaluation, reference=shifted(evaluation.reference), predicted=shifted(evaluation.predicted)
    )
    np.testing.assert_allclose(
        by_name(heavy)["energy"].reference, by_name(evaluation)["energy"].reference, atol=1e-9
    )


def test_force_components_know_their_type(evaluation):
    pairs = by_name(evaluation)["forces"]
    labelled = np.isfinite(evaluation.reference.forces).all(1)
    np.testing.assert_array_equal(pairs.kind, np.repeat(evaluation.types[labelled], 3))
    assert pairs.kinds == ("H", "O")


def test_each_quantity_gets_a_parity_plot_and_a_histogram(evaluation):
    names = [plot.name for plot in [*parity_plots(evaluation), *error_plots(evaluation)]]
    expected = ["energy", "forces", "stress"]
    assert names == [f"parity_{name}" for name in expected] + [f"errors_{name}" for name in expected]


def test_plots_are_pictures_with_something_in_them(evaluation):
    for plot in [*parity_plots(evaluation), *error_plots(evaluation)]:
        picture = pixels(plot.png)
        assert min(picture.shape[:2]) > 250
        assert 0.01 < (picture.min(-1) < 200).mean() < 0.5


def test_quantity_without_labels_gets_no_plot(evaluation):
    nothing = evaluation.reference._replace(stress=np.full_like(evaluation.reference.stress, np.nan))
    assert [plot.name for plot in parity_plots(replace(evaluation, reference=nothing))] == [
        "parity_energy",
        "parity_forces",
    ]


def test_many_points_are_drawn_as_density(evaluation_of, monkeypatch):
    """Both ways put ink of the same colours around the diagonal."""
    evaluation = evaluation_of(200)
    points = pixels(parity_plots(evaluation)[1].png)
    monkeypatch.setattr(parity, "MANY_POINTS", 100)
    density = pixels(parity_plots(evaluation)[1].png)
    assert not np.array_equal(points, density)
    for picture in (points, density):
        colored = picture.max(-1).astype(int) - picture.min(-1) > 60
        assert 100 < colored.sum() < 0.2 * colored.size


@pytest.mark.parametrize("error", [0.0, 1e-9, 1e6])
def test_errors_of_any_size_can_be_drawn(evaluation, error):
    predicted = Values(*(values + error for values in evaluation.reference))
    extreme = replace(evaluation, predicted=predicted)
    assert len([*parity_plots(extreme), *error_plots(extreme)]) == 6


def test_one_frame_can_be_drawn(evaluation_of):
    evaluation = evaluation_of(1, groups=("",))
    assert [plot.name for plot in error_plots(evaluation)] == ["errors_energy", "errors_forces"]


def test_plots_are_the_same_every_time(evaluation):
    first, second = parity_plots(evaluation), parity_plots(evaluation)
    assert [plot.png for plot in first] == [plot.png for plot in second]


def test_pyplot_is_not_touched(evaluation):
    import matplotlib.pyplot as plt

    parity_plots(evaluation)
    assert plt.get_fignums() == []
