"""Stopping between two batches, on a signal or when the time is up, with everything saved."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from nequip.errors import TrainingError
from nequip.train import ranks, slurm
from nequip.train.callbacks.checkpoints import Checkpoints
from nequip.train.module import PotentialModule


class TrainingInterrupted(TrainingError):
    """The user stopped training; the sentence says how to go on."""

    exit_code = 130


class Requeued(TrainingInterrupted):
    """The job of SLURM ends before its time is over, and is queued again."""

    exit_code = 0


class StopRequested(Exception):
    """Leaves Lightning's loops from between two batches.

    `trainer.should_stop` would end the epoch as if it were whole: with a row in the tables, a step of
    the scheduler, and a checkpoint that forgets the batches that are left.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


class StopBetweenBatches(Checkpoint):
    """Saves `last` and raises StopRequested; after the last batch of an epoch, once the epoch is over.

    Several processes ask each other while a batch is computed, so that none waits for the answer: they stop
    after the batch that follows a request.

    Derived from Checkpoint so that it comes after `Checkpoints` at the end of an epoch.
    """

    def __init__(self, checkpoints: Checkpoints, max_seconds: float | None):
        self._checkpoints = checkpoints
        self._deadline = None if max_seconds is None else time.monotonic() + max_seconds
        self._interrupted = self._requeue = False
        self._before: dict[signal.Signals, Any] = {}
        self._asked: ranks.Sum | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        # Not before: Lightning's own handler exchanges messages between processes from within the signal.
        if self._before:
            signal.signal(signal.SIGTERM, self._on_signal)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: PotentialModule, batch: Any, batch_idx: int
    ) -> None:
        self._asked = self._ask() if trainer.world_size > 1 else None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: PotentialModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        reason = self._reason(self._asked or self._ask())
        if reason and not trainer.is_last_batch:
            self._checkpoints.save_last(trainer, pl_module)
            raise StopRequested(reason)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PotentialModule) -> None:
        reason = self._reason(self._ask())
        if reason:
            raise StopRequested(reason)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the first Ctrl-C as a request to stop; a second one stops at once.

        SIGTERM is such a request too, and SIGUSR1 within a job of SLURM that it be queued again.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = [signal.SIGINT, signal.SIGTERM] + [signal.SIGUSR1] * (slurm.job_id() is not None)
        self._before = {number: signal.getsignal(number) for number in handled}
        signal.signal(signal.SIGINT, self._on_signal)
        if signal.SIGUSR1 in handled:
            signal.signal(signal.SIGUSR1, self._on_requeue)
        try:
            yield
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if ranks.rank() == 0:
            # Not print: the signal may have come in the middle of one, and Python's streams refuse that.
            os.write(2, b"\nStopping after this batch; Ctrl-C again stops at once.\n")

    def _on_requeue(self, number: int, frame: FrameType | None) -> None:
        self._requeue = True

    def _ask(self) -> ranks.Sum:
        late = self._deadline is not None and time.monotonic() >= self._deadline
        return ranks.count_of(self._interrupted, self._requeue, late)

    def _reason(self, asked: ranks.Sum) -> str | None:
        """The same in all processes, whichever of them was asked to stop."""
        names = ("interrupt", "requeue", "max_time")
        return next((name for name, count in zip(names, asked.result(), strict=True) if count), None)
