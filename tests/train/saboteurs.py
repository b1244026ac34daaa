"""Lightning callbacks that disturb a run at a chosen moment; tests name them under `extensions:`."""

from __future__ import annotations

import os
import signal

import lightning.pytorch as pl


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


class NotACallback:
    pass
