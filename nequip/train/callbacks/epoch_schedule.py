"""Decisions at the end of an epoch: the learning rate of the next one, and whether there is one."""

from __future__ import annotations

import math

import lightning.pytorch as pl

from nequip.config.schema import EarlyStoppingConfig, SchedulerConfig
from nequip.train.module import PotentialModule


class StepScheduler(pl.Callback):
    """Steps a scheduler of the epoch."""

    def __init__(self, config: SchedulerConfig):
        self._config = config

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        if self._config.interval == "epoch":
            pl_module.step_scheduler()


class EarlyStopping(pl.Callback):
    """Stops when the monitored value no longer falls, or when the learning rate has become too small.

    Not before the last stage of the loss has begun.
    """

    def __init__(self, config: EarlyStoppingConfig):
        self._config = config
        self._best = math.inf
        self._waited = 0  # validations without improvement
        self.reason: str | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        config = self._config
        schedule = pl_module.loss.schedule
        if schedule and trainer.current_epoch < schedule[-1].epoch:
            return
        value = pl_module.record.get(config.monitor)
        if value is not None:
            self._waited = 0 if value < self._best - config.min_delta else self._waited + 1
            self._best = value if self._waited == 0 else self._best
        if self._waited >= config.patience:
            self.reason = f"{config.monitor} has not improved for {self._waited} validations"
        elif pl_module.lr < config.min_lr:
            self.reason = f"the learning rate fell to {pl_module.lr:.2g}"
        trainer.should_stop |= self.reason is not None

    def state_dict(self) -> dict[str, float]:
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self._best, self._waited = state_dict["best"], int(state_dict["waited"])
