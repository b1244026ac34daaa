"""What a run leaves behind: checkpoints to go on from, and potentials to use."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from nequip.model.card import TrainingRecord
from nequip.train.module import PotentialModule


class Checkpoints(Checkpoint):
    """Saves the `last` state after every epoch, and the `best` by the monitored value.

    Of each: `.ckpt` to resume from, `.nequip` with the weights that were validated (the moving
    average where there is one), `_raw.nequip` with the weights that were trained. Saved at the end of
    an epoch only, when nothing but validation happened since the last step. The best is chosen anew when
    a stage of the loss begins, whose losses cannot be compared with those before.
    """

    def __init__(self, folder: Path, monitor: str, record: TrainingRecord):
        self._folder = folder
        self._monitor = monitor
        self._record = record
        self._best = math.inf
        self.best_record: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        value = pl_module.record.get(self._monitor, math.inf)
        if pl_module.loss.is_judged_anew(trainer.current_epoch):
            self._best = math.inf
        if value < self._best:
            self._best, self.best_record = value, pl_module.record
            self._save(trainer, pl_module, "best")
        self._save(trainer, pl_module, "last")

    def save_last(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        """Save between two batches, as a run does that is about to stop."""
        self._save(trainer, pl_module, "last")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "best_record": self.best_record}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best, self.best_record = state_dict["best"], state_dict["best_record"]

    def _save(self, trainer: pl.Trainer, module: PotentialModule, name: str) -> None:
        trainer.save_checkpoint(self._folder / f"{name}.ckpt")
        if not trainer.is_global_zero:
            return
        # Errors are those of the validated weights, as they were at the end of an epoch.
        epoch, batch = module.position
        found = module.record if batch == 0 else {}
        errors = {key: value for key, value in found.items() if key.startswith(("val/", "replay/"))}
        kind = "raw" if module.average is None else "ema"
        validated = self._record.model_copy(update={"epochs": epoch, "weights": kind, "errors": errors})
        _save_potential(module.validated, validated, self._folder / f"{name}.nequip")
        raw = validated.model_copy(update={"weights": "raw", "errors": errors if kind == "raw" else {}})
        _save_potential(module.potential, raw, self._folder / f"{name}_raw.nequip")


def _save_potential(potential: Any, record: TrainingRecord, path: Path) -> None:
    potential.card = potential.card.model_copy(update={"training": record})
    potential.save(path)
