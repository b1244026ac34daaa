from __future__ import annotations

import inspect
import io

import pytest
import torch
from torch.optim import lr_scheduler

from nequip.config.schema import OptimizerConfig, SchedulerConfig, TrainConfig
from nequip.errors import ConfigError
from nequip.train.optimization import build_optimizer, build_scheduler, check_optimization

SCHEDULERS = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 3]},
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "cycle_momentum": False},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 20},
    "ReduceLROnPlateau": {"patience": 1},
}


def weights() -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2, 2))]


@pytest.mark.parametrize(
    "name", ["Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "NAdam", "RAdam", "RMSprop", "SGD"]
)
def test_optimizers_are_found_by_name_and_keep_their_defaults(name):
    optimizer = build_optimizer(OptimizerConfig(name=name, lr=0.5), weights())
    default = inspect.signature(type(optimizer)).parameters.get("weight_decay")
    assert optimizer.defaults["lr"] == 0.5
    assert default is None or optimizer.defaults["weight_decay"] == default.default


def test_weight_decay_and_params_reach_the_optimizer():
    config = OptimizerConfig(weight_decay=0.25, params={"amsgrad": True})
    optimizer = build_optimizer(config, weights())
    assert (optimizer.defaults["weight_decay"], optimizer.defaults["amsgrad"]) == (0.25, True)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_goes_on_from_a_state_read_with_weights_only(name):
    def start():
        optimizer = build_optimizer(OptimizerConfig(name="SGD"), weights())
        return optimizer, build_scheduler(SchedulerConfig(name=name, params=SCHEDULERS[name]), optimizer)

    def step(optimizer, scheduler, count):
        for _ in range(count):
            optimizer.step()
            scheduler.step(1.0) if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else scheduler.step()

    whole, parts, resumed = start(), start(), start()
    step(*whole, 8)
    step(*parts, 3)
    buffer = io.BytesIO()
    torch.save([part.state_dict() for part in parts], buffer)
    buffer.seek(0)
    for part, state in zip(resumed, torch.load(buffer, weights_only=True), strict=True):
        part.load_state_dict(state)
    step(*resumed, 5)
    assert resumed[0].param_groups[0]["lr"] == whole[0].param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"optimizer": {"name": "AdamX"}}, r"torch.optim has no 'AdamX' \(did you mean 'Adam"),
        ({"optimizer": {"params": {"beta": [0.9, 0.99]}}}, r"no argument 'beta' \(did you mean 'betas'\?\)"),
        ({"optimizer": {"name": "LBFGS", "weight_decay": 0.1}}, "LBFGS has no argument 'weight_decay'"),
        ({"optimizer": {"params": {"betas": [2, 2]}}}, "torch refuses to build AdamW"),
        ({"optimizer": {"params": {"params": []}}}, "no argument 'params'"),
        ({"scheduler": {"name": "StepLr"}}, r"has no 'StepLr' \(did you mean 'StepLR'\?\)"),
        ({"scheduler": {"name": "StepLR"}}, "torch refuses to build StepLR"),
        ({"scheduler": {"params": {"patients": 3}}}, r"no argument 'patients' \(did you mean 'patience'\?\)"),
        (
            {"scheduler": {"name": "LambdaLR", "params": {"lr_lambda": "0.9"}}},
            "torch refuses to build LambdaLR",
        ),
        ({"scheduler": {"interval": "step"}}, "set it to 'epoch'"),
    ],
)
def test_mistakes_get_one_sentence_before_training(config, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_optimization(TrainConfig.model_validate(config))
