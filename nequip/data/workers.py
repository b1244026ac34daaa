"""Pieces of work in other processes, their results in the order of the pieces."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

import torch
from torch.utils.data import DataLoader, Dataset

from nequip.errors import DataError, NequIPError

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_workers(work: Callable[[Job], Result], jobs: Iterable[Job], num_workers: int = 0) -> Iterator[Result]:
    """`work(job)` for every job, by `num_workers` processes; 0: by this one.

    Jobs are taken as they are needed: two for each worker lie ready.

    Raises:
        NequIPError: as `work` does, with the same sentence.
        DataError: for a worker that was killed.
    """
    loader: DataLoader[Result] = DataLoader(
        _Work(work),
        batch_size=None,
        sampler=cast(Any, jobs),
        num_workers=num_workers,
        collate_fn=_same,
        worker_init_fn=ignore_interrupts,
        generator=torch.Generator(),  # that of the process decides the weights of models
    )
    try:
        for result in loader:
            if isinstance(result, NequIPError):
                raise result
            yield result
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise DataError(
            "a worker was killed, perhaps because memory ran out: what is finished is kept, and the same "
            "command goes on from there, with fewer workers if need be."
        ) from error


def ignore_interrupts(worker: int) -> None:
    """What a terminal sends at Ctrl-C goes to workers too: the main process decides when they end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Work(Dataset[Any], Generic[Job, Result]):
    """A function as what a loader asks for its items."""

    def __init__(self, work: Callable[[Job], Result]):
        self._work = work

    def __getitem__(self, job: Job) -> Result | NequIPError:
        try:
            return self._work(job)
        except NequIPError as error:
            return error  # the loader would put a traceback into its sentence


def _same(result: Result) -> Result:
    return result
