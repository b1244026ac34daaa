"""Lightning callbacks that disturb a run at a chosen moment; tests name them under `extensions:`."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import lightning.pytorch as pl

from nequip.train.callbacks.stop import StopRequested


class PressCtrlC(pl.Callback):
    """Sends SIGINT to this process in the middle of a training step, or in a validation."""

    def __init__(self, step: int, hook: str = "on_before_backward", times: int = 1):
        self.step = step
        self.times = times
        setattr(self, hook, self.press)

    def press(self, trainer: pl.Trainer, *arguments: object) -> None:
        if trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), signal.SIGINT)


class FillDisk(pl.Callback):
    """Lets no file grow beyond 8 kB after `epoch` epochs: the tables fit, a checkpoint does not."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))


class WatchMemory(pl.Callback):
    """Writes the memory of this process in MB after every `interval` steps, and ends the run at `steps`."""

    def __init__(self, file: str, interval: int, steps: int):
        self.file = file
        self.interval = interval
        self.steps = steps
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: object) -> None:
        if trainer.global_step % self.interval == 0:
            self.seen.append(_anonymous_memory())
        if trainer.global_step == self.steps:
            Path(self.file).write_text(json.dumps(self.seen))
            raise StopRequested("max_time")


def _anonymous_memory() -> float:
    # Without the pages of mapped files, which the system takes back when it needs them.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in line)
    return int(line.split()[1]) / 1000


class NotACallback:
    pass
