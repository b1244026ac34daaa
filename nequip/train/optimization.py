"""Optimizers and learning-rate schedulers of torch by name, checked before anything is trained."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import torch
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from nequip.config.schema import OptimizerConfig, SchedulerConfig, TrainConfig
from nequip.errors import ConfigError, did_you_mean

# Optimizers that torch can run in one call for all weights, on CPUs and GPUs: a step of a small model on
# small molecules is a tenth faster.
FUSED = ("Adam", "AdamW", "SGD")


def build_optimizer(config: OptimizerConfig, parameters: Iterable[torch.nn.Parameter]) -> Optimizer:
    """An optimizer of `torch.optim` for what is not frozen; what `config` leaves open keeps torch's default.

    Raises:
        ConfigError: for an unknown name or argument, or a value that torch refuses.
    """
    kind = _find(torch.optim, Optimizer, config.name, "train.optimizer")
    arguments: dict[str, Any] = {"lr": config.lr, **config.params}
    if config.weight_decay is not None:
        arguments["weight_decay"] = config.weight_decay
    if config.name in FUSED and not arguments.keys() & {"fused", "foreach", "capturable", "differentiable"}:
        arguments["fused"] = True
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return _build(kind, trained, arguments, "train.optimizer")


def build_scheduler(config: SchedulerConfig, optimizer: Optimizer) -> LRScheduler:
    """A scheduler of `torch.optim.lr_scheduler`.

    Raises:
        ConfigError: for an unknown name or argument, or a value that torch refuses.
    """
    kind = _find(lr_scheduler, LRScheduler, config.name, "train.scheduler")
    return _build(kind, optimizer, config.params, "train.scheduler")


def check_optimization(config: TrainConfig) -> None:
    """Build everything on one dummy weight, so that mistakes show before the data is read.

    Raises:
        ConfigError: as the builders do.
    """
    optimizer = build_optimizer(config.optimizer, [torch.nn.Parameter(torch.zeros(2, 2))])
    if config.scheduler is not None:
        scheduler = build_scheduler(config.scheduler, optimizer)
        if isinstance(scheduler, ReduceLROnPlateau) and config.scheduler.interval == "step":
            raise ConfigError(
                "train.scheduler.interval cannot be 'step' with ReduceLROnPlateau, which looks at the value "
                "of an epoch: set it to 'epoch'."
            )


def _find(module: ModuleType, base: type, name: str, key: str) -> type:
    kinds = {
        kind: value
        for kind, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base and kind[0] != "_"
    }
    if name not in kinds:
        raise ConfigError(
            f"{key}.name: {module.__name__} has no {name!r}{did_you_mean(name, kinds)}; "
            f"there are {', '.join(sorted(kinds))}."
        )
    return kinds[name]


def _build(kind: type, target: object, arguments: dict[str, Any], key: str) -> Any:
    valid = list(inspect.signature(kind).parameters)[1:]
    for unknown in [name for name in arguments if name not in valid]:
        raise ConfigError(
            f"{key}: {kind.__name__} has no argument {unknown!r}{did_you_mean(unknown, valid)}; "
            f"it takes {', '.join(valid)}."
        )
    try:
        return kind(target, **arguments)
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{key}: torch refuses to build {kind.__name__}: {error}.") from error
