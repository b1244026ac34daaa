from __future__ import annotations

import numpy as np
import pytest
import torch
from test_loss import labelled

from nequip.config.schema import LossConfig
from nequip.data.graph import AtomicGraph, collate
from nequip.errors import ConfigError
from nequip.nn.derivatives import Prediction
from nequip.train.loss import Loss
from nequip.train.metrics import ErrorMetrics, Tally, check_monitor

GROUPS = ("crystal", "molecule")


def frames(count: int) -> list[tuple[AtomicGraph, Prediction]]:
    """Structures of two types and groups with random labels, some missing, and predictions."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        number = int(rng.integers(1, 6))
        forces = rng.normal(size=(number, 3))
        forces[rng.random((number, 3)) < 0.2] = np.nan
        graph = labelled(rng.normal(), forces.tolist(), stress=[np.nan, 0.1][index % 2])
        graph = graph._replace(labels=graph.labels._replace(group=torch.tensor([index % 2])))
        made.append((graph, Prediction(*(torch.tensor(rng.normal(size=s)) for s in _shapes(number)), None)))
    return made


def _shapes(number: int) -> list[tuple[int, ...]]:
    return [(1,), (number,), (number, 3), (1, 3, 3)]


def batch(part: list[tuple[AtomicGraph, Prediction]]) -> tuple[Prediction, AtomicGraph]:
    columns = zip(*(prediction[:4] for _, prediction in part), strict=True)
    return Prediction(*map(torch.cat, columns), None), collate([graph for graph, _ in part])


def errors_of(made: list[tuple[AtomicGraph, Prediction]], size: int) -> dict[str, float]:
    metrics = ErrorMetrics(("H", "O"), GROUPS)
    for start in range(0, len(made), size):
        metrics.update(*batch(made[start : start + size]))
    return metrics.compute()


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_batches_of_any_size_give_the_numbers_of_one_pass(size):
    made = frames(40)
    whole = errors_of(made, 40)
    assert errors_of(made, size) == pytest.approx(whole, rel=1e-13)
    assert len(whole) == 2 * (4 + 2 + 1 + 8 - 1)  # molecules have no stress


def test_errors_agree_with_numpy():
    made = frames(40)
    prediction, graph = batch(made)
    errors = errors_of(made, 40)
    forces = (prediction.forces - graph.labels.forces).numpy()
    energy = (prediction.energy - graph.labels.energy).numpy()
    atoms = np.bincount(graph.batch.numpy())
    oxygen = forces[graph.types.numpy() == 1]
    molecule = forces[graph.labels.group.numpy()[graph.batch.numpy()] == 1]
    expected = {
        "energy_mae": np.abs(energy).mean(),
        "energy_rmse": np.sqrt((energy**2).mean()),
        "energy_per_atom_mae": np.abs(energy / atoms).mean(),
        "forces_rmse": np.sqrt(np.nanmean(forces**2)),
        "forces_mae/O": np.nanmean(np.abs(oxygen)),
        "forces_mae/group=molecule": np.nanmean(np.abs(molecule)),
        "forces_rmse/type_mean": np.mean([errors["forces_rmse/H"], errors["forces_rmse/O"]]),
    }
    assert {name: errors[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_a_quantity_without_labels_has_no_entry():
    graph = labelled(1.0, [[np.nan] * 3])
    metrics = ErrorMetrics(("H", "O"))
    metrics.update(Prediction(torch.ones(1), torch.ones(1), None, None, None), graph)
    assert metrics.compute().keys() == {
        f"energy{kind}_{measure}" for kind in ("", "_per_atom") for measure in ("mae", "rmse")
    }


def test_one_group_is_not_told_apart():
    assert not [name for name in ErrorMetrics(("H",), ("all",)).names() if "group" in name]


def tally() -> Tally:
    return Tally(Loss(LossConfig(), ("H", "O")), ErrorMetrics(("H", "O"), GROUPS))


def test_the_loss_of_a_pass_is_that_of_one_large_batch():
    made = frames(20)
    loss = Loss(LossConfig(), ("H", "O"))
    prediction, graph = batch(made)
    running = tally()
    for start in range(0, 20, 3):
        part = batch(made[start : start + 3])
        running.update(*part, loss(*part))
    assert running.compute()["loss"] == pytest.approx(float(loss.combine(loss(prediction, graph))), rel=1e-13)


def test_a_tally_goes_on_exactly_from_its_state():
    made = frames(10)
    loss = Loss(LossConfig(), ("H", "O"))
    whole, first, second = tally(), tally(), tally()
    for index, (graph, prediction) in enumerate(made):
        for running in (whole, first if index < 5 else second):
            if index == 5 and running is second:
                second.load_state_dict(first.state_dict())
            running.update(prediction, graph, loss(prediction, graph))
    assert second.compute() == whole.compute()


@pytest.mark.parametrize(
    ("monitor", "has_validation", "sentence"),
    [
        ("val/force_mae", True, r"did you mean 'val/forces_mae'\?"),
        ("val/loss", False, "there are no validation frames"),
    ],
)
def test_a_monitor_that_will_never_appear_is_refused(monitor, has_validation, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_monitor("train.monitor", monitor, tally(), has_validation=has_validation)


@pytest.mark.parametrize(
    "monitor", ["val/loss", "val/forces_mae/type_mean", "train/energy_rmse/group=crystal"]
)
def test_a_monitor_that_is_computed_is_accepted(monitor):
    check_monitor("train.monitor", monitor, tally(), has_validation=True)


def test_a_prediction_of_nan_shows_in_the_errors():
    graph, prediction = frames(1)[0]
    graph = graph._replace(labels=graph.labels._replace(forces=torch.zeros_like(graph.labels.forces)))
    metrics = ErrorMetrics(("H", "O"))
    metrics.update(prediction._replace(forces=torch.full_like(prediction.forces, torch.nan)), graph)
    assert np.isnan(metrics.compute()["forces_mae"])
