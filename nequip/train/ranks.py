"""Sums over the processes ("ranks") of a run; in a run of one process they change nothing.

Every process must call them at the same place, with tensors of the same shape.
"""

from __future__ import annotations

from typing import NoReturn

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from nequip.data.graph import AtomicGraph, collate
from nequip.data.loading import is_blank
from nequip.errors import NequIPError
from nequip.typing import Tensor


def rank() -> int:
    """The number of this process, known from the moment it was started."""
    return distributed.get_rank() if _several() else getattr(rank_zero_only, "rank", 0)


def world_size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _several() else 1


class Sum:
    """The sum of `values` over all processes, under way; what is computed meanwhile waits for nobody.

    Processes must begin their sums in the same order.
    """

    def __init__(self, values: Tensor):
        values = values.detach()
        self._device = values.device
        self._work: distributed.Work | None = None
        self._total = values
        if _several():
            self._total = values.to(_device(), copy=True)
            self._work = distributed.all_reduce(self._total, async_op=True)

    def result(self) -> Tensor:
        """The sum, without gradient; bit for bit the same in each process."""
        if self._work is not None:
            self._work.wait()
            self._work = None
        return self._total.to(self._device)


def summed(values: Tensor) -> Tensor:
    """The sum of `values` over all processes, without gradient; bit for bit the same in each of them."""
    return Sum(values).result()


def count_of(*flags: bool) -> Sum:
    """Of each flag, in how many processes it is up."""
    return Sum(torch.tensor(flags, dtype=torch.float32))


def whole_batch(part: AtomicGraph) -> AtomicGraph:
    """The batch of which every process holds a part; for messages, not for training."""
    if not _several():
        return part
    parts: list[AtomicGraph | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(parts, part.to("cpu"))
    present = [each for each in parts if each is not None]
    return collate([each for each in present if not is_blank(each)] or present[:1])


def raise_together(error: NequIPError) -> NoReturn:
    """What every process finds out in the same place, the first one says; the others leave without a word."""
    if rank() > 0:
        raise SystemExit(error.exit_code) from error
    raise error


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _device() -> torch.device:
    on_gpu = distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
