"""The numbers of every epoch and of some steps, into tables and loggers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from nequip.train.loggers import CsvTable, forget_later_steps
from nequip.train.module import PotentialModule


class History(pl.Callback):
    """Completes `module.record` when an epoch ends; the first process writes it to `metrics.csv` and loggers.

    `steps.csv` gets a row every `every_n_steps` steps. A resumed run goes on with the tables, and with
    TensorBoard's files, where its checkpoint was saved: what came later is dropped.
    """

    def __init__(self, folder: Path, every_n_steps: int):
        self._epochs = CsvTable(folder / "metrics.csv")
        self._steps = CsvTable(folder / "steps.csv")
        self._every_n_steps = every_n_steps
        self._elapsed = 0.0  # s, of the runs before this one
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self._elapsed + time.monotonic() - self._started

    def on_train_start(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        self._started = time.monotonic()
        if trainer.is_global_zero:
            self._epochs.resume("epoch", pl_module.position.epoch)
            self._steps.resume("step", trainer.global_step)
            forget_later_steps(trainer.loggers, trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: PotentialModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step % self._every_n_steps == 0 and trainer.is_global_zero:
            self._steps.append({"step": step, "epoch": trainer.current_epoch + 1, **pl_module.step_record})
            _log(trainer, {f"step/{name}": value for name, value in pl_module.step_record.items()})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        train = pl_module.train_tally.compute(trainer.current_epoch)
        val = pl_module.record
        record = {
            "epoch": trainer.current_epoch + 1,  # epochs done
            "step": trainer.global_step,
            "time": self.elapsed,
            "lr": pl_module.lr,
            "train/loss": train["loss"],
        }
        pl_module.record = record | val | {f"train/{name}": value for name, value in train.items()}
        if pl_module.finite.choice == "skip":
            pl_module.record["train/skipped"] = pl_module.finite.skipped
        if trainer.world_size > 1:
            pl_module.record["idle"] = trainer.datamodule.idle_fraction
        if trainer.is_global_zero:
            self._epochs.append(pl_module.record)
            _log(trainer, pl_module.record)

    def state_dict(self) -> dict[str, float]:
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self._elapsed = state_dict["elapsed"]


def _log(trainer: pl.Trainer, numbers: dict[str, float]) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(numbers, step=trainer.global_step)
