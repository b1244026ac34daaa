from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from toy_potential import toy_potential

from nequip.model.registry import build_potential
from nequip.train.ema import WeightAverage
from nequip.train.fit import Fit
from nequip.train.prepare import prepare_data, resolve_model_config
from nequip.train.quiet import quiet_lightning


def moved(potential, by: float) -> None:
    with torch.no_grad():
        for weight in potential.parameters():
            weight.add_(by)


def test_the_average_follows_the_formula_with_its_warm_up():
    potential = toy_potential()
    average = WeightAverage(potential, decay=0.5)
    expected = potential.depth.item()
    for step in range(30):
        moved(potential, 1.0)
        average.update(potential)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * potential.depth.item()
    assert average.potential.depth.item() == pytest.approx(expected, rel=1e-14)


def test_the_average_needs_no_gradient_and_shares_no_weight():
    potential = toy_potential()
    average = WeightAverage(potential, decay=0.5)
    before = average.potential.depth.clone()
    moved(potential, 1.0)
    assert torch.equal(average.potential.depth, before)
    assert not any(weight.requires_grad for weight in average.parameters())


def test_buffers_follow_the_trained_potential():
    potential = toy_potential()
    potential.register_buffer("count", torch.tensor(1))
    average = WeightAverage(potential, decay=0.5)
    potential.count += 41
    average.update(potential)
    assert average.potential.count == 42


def test_a_state_goes_on_exactly():
    potential = toy_potential()
    whole, first = WeightAverage(potential, 0.9), WeightAverage(potential, 0.9)
    for _ in range(5):
        moved(potential, 0.1)
        whole.update(potential)
        first.update(potential)
    second = WeightAverage(toy_potential(), 0.9)
    second.load_state_dict(first.state_dict())
    moved(potential, 0.1)
    for average in (whole, second):
        average.update(potential)
    assert torch.equal(whole.potential.depth, second.potential.depth)


class SeeSteps(pl.Callback):
    """Keeps the trained weights after every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, *batch):
        self.seen.append(pl_module.potential.depth.detach().clone())


def test_training_averages_every_step_once(make_config):
    config = make_config(train={"ema_decay": 0.8})
    Path(config.output_dir).mkdir()
    watch = SeeSteps()
    with quiet_lightning():
        data = prepare_data(config)
        potential = build_potential(resolve_model_config(config.model, data))
        average = potential.depth.detach().clone()
        fit = Fit(potential, data, config, [watch])
        fit.run()
    for step, weight in enumerate(watch.seen):
        average.lerp_(weight, 1 - min(0.8, (1 + step) / (10 + step)))
    assert torch.equal(fit.module.validated.depth, average)
