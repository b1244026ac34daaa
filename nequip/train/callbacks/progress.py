"""How far a run is, for a person at a terminal or for the log of a batch job."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning.pytorch as pl
from tqdm import tqdm

from nequip.config.schema import LoggingConfig
from nequip.train.module import PotentialModule
from nequip.units import MEV


class ProgressLines(pl.Callback):
    """One line for every epoch: loss, errors, learning rate, time and what is left of it."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first_epoch = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        self._started = time.monotonic()
        self._first_epoch = pl_module.position.epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        epochs = trainer.current_epoch + 1
        per_epoch = (time.monotonic() - self._started) / (epochs - self._first_epoch)
        total = trainer.max_epochs or epochs
        left = f"{per_epoch:.3g} s/epoch, {_duration(per_epoch * (total - epochs))} left"
        width = len(str(total))
        told = f"{describe_errors(pl_module.record)}  {left}  {describe_speed(pl_module.record)}"
        self._write(f"epoch {epochs:>{width}}/{total}  {told}")

    def _write(self, line: str) -> None:
        print(line, flush=True)


class ProgressBar(ProgressLines):
    """The same lines above a bar of the batches of the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm | None = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: PotentialModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is None:
            total = trainer.datamodule.num_batches
            self._bar = tqdm(total=total, initial=batch_idx, unit="batch", leave=False, dynamic_ncols=True)
        self._bar.set_description(f"epoch {trainer.current_epoch + 1}", refresh=False)
        self._bar.set_postfix_str(f"loss {pl_module.step_record['loss']:.3g}", refresh=False)
        self._bar.update()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str("validating")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        self._close()
        super().on_train_epoch_end(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: PotentialModule, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def build_progress(config: LoggingConfig) -> list[pl.Callback]:
    """The progress that `config` asks for; "auto" is a bar on a terminal and lines elsewhere."""
    kind = config.progress
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "lines"
    return {"bar": [ProgressBar()], "lines": [ProgressLines()], "off": []}[kind]


def describe_errors(record: dict[str, float]) -> str:
    """Loss, mean absolute errors and learning rate of an epoch in a few words."""
    stage = "val" if "val/loss" in record else "train"
    parts = [f"loss {record['train/loss']:.4g}"]
    if stage == "val":
        parts.append(f"val {record['val/loss']:.4g}")
    names = [
        ("energy_per_atom_mae", "E", "meV/atom"),
        ("forces_mae", "F", "meV/Å"),
        ("stress_mae", "S", "meV/Å³"),
    ]
    for name, symbol, unit in names:
        if f"{stage}/{name}" in record:
            parts.append(f"{symbol} {MEV * record[f'{stage}/{name}']:.4g} {unit}")
    if "replay/loss" in record:
        parts.append(f"replay {record['replay/loss']:.4g}")
    return "  ".join([*parts, f"lr {record['lr']:.2g}"])


def describe_speed(record: dict[str, float]) -> str:
    """Throughput, what was waited for and the memory of an epoch in a few words."""
    waits = [("idle", "idle"), ("data_wait", "data wait")]
    parts = [f"{record['atoms_per_s']:.3g} atoms/s", f"{record['edges_per_s']:.3g} edges/s"]
    parts += [f"{name} {100 * record[key]:.0f}%" for key, name in waits if key in record]
    parts.append(f"{record['memory']:.2g} GB")
    if "gpu_memory" in record:
        parts.append(f"GPU {record['gpu_memory']:.2g} GB")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
