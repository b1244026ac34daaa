"""Lightning callbacks that disturb a run at a chosen moment; tests name them under `extensions:`."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import lightning.pytorch as pl
import torch

from nequip.errors import DataError
from nequip.train.callbacks.stop import StopRequested


class PressCtrlC(pl.Callback):
    """Sends SIGINT, or another signal, to this process in the middle of a training step or a validation.

    Of several processes to all, or to the one that is named.
    """

    signal = "SIGINT"

    def __init__(self, step: int, hook: str = "on_before_backward", times: int = 1, rank: int | None = None):
        self.step = step
        self.times = times
        self.rank = rank
        setattr(self, hook, self.press)

    def press(self, trainer: pl.Trainer, *arguments: object) -> None:
        if trainer.global_step == self.step and self.rank in (None, trainer.global_rank):
            for _ in range(self.times):
                os.kill(os.getpid(), signal.Signals[self.signal])


class AskToRequeue(PressCtrlC):
    """Sends what SLURM sends before the time of a job is over."""

    signal = "SIGUSR1"

    def press(self, trainer: pl.Trainer, *arguments: object) -> None:
        if "SLURM_RESTART_COUNT" not in os.environ:
            super().press(trainer, *arguments)


class Terminate(PressCtrlC):
    """Sends what scancel, systemd and kill send."""

    signal = "SIGTERM"


class Kill(pl.Callback):
    """Ends the process `rank` in the middle of a step as the system does where memory runs out.

    All processes write their numbers to `folder`, as names of files.
    """

    def __init__(self, step: int, rank: int, folder: str):
        self.step = step
        self.rank = rank
        self.folder = Path(folder)

    def on_before_backward(self, trainer: pl.Trainer, *arguments: object) -> None:
        if trainer.global_step == self.step:
            (self.folder / f"{os.getpid()}.pid").touch()
            if trainer.global_rank == self.rank:
                os.kill(os.getpid(), signal.SIGKILL)


class SpoilData(pl.Callback):
    """Raises in one process what a damaged file of frames does."""

    def __init__(self, step: int, rank: int):
        self.step = step
        self.rank = rank

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: object) -> None:
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            raise DataError("frame 7 of frames.h5 cannot be read.")


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


class SaveGradients(pl.Callback):
    """Keeps the gradients of every step, and writes those of the first process at the end."""

    def __init__(self, file: str):
        self.file = file
        self.seen: list[list[torch.Tensor]] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.seen.append([weight.grad.clone() for weight in pl_module.potential.parameters()])

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            torch.save(self.seen, self.file)


class NotACallback:
    pass
