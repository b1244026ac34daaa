"""What stops training for good, said so that the user can find the frames and the way out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import torch

from nequip.data.graph import AtomicGraph
from nequip.errors import TrainingError
from nequip.train import ranks
from nequip.typing import Float, Tensor

logger = logging.getLogger(__name__)

# Batches in a row that may be left out: beyond, it is the weights that are wrong.
MOST_SKIPPED = 10

# How the allocators of torch say it; on a CPU it is a plain RuntimeError.
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


def describe(graph: AtomicGraph) -> str:
    """The size of a batch and the frames in it."""
    frames = [str(index) for index in graph.labels.index.tolist()]
    shown = ", ".join(frames[:20]) + (f", and {len(frames) - 20} more" if len(frames) > 20 else "")
    return f"{graph.num_graphs} structures, {graph.num_atoms} atoms, {graph.num_edges} edges; frames {shown}"


class FiniteSteps:
    """Sees that no loss or gradient that is not finite reaches the weights, in all processes alike.

    A batch that gives one is saved for inspection, and the run stops, or leaves this one step out.
    """

    def __init__(self, choice: Literal["stop", "skip"]):
        self.choice = choice
        self.skipped = 0  # batches of this epoch
        self.skips = False  # whether the step under way is left out
        self._in_row = 0

    def begin(self) -> None:
        """Before each step."""
        self._in_row = self._in_row + 1 if self.skips else 0
        self.skips = False

    def check(
        self, value: Float[Tensor, ""], what: str, graph: AtomicGraph, position: tuple[int, int], folder: str
    ) -> None:
        """`value` is that of all processes, `graph` the part of the batch that this one holds.

        Raises:
            TrainingError: naming epoch, batch and frames, where the run is to stop, or when too many
                batches in a row were left out.
        """
        if self.skips or torch.isfinite(value):
            return
        graph, (epoch, batch) = ranks.whole_batch(graph), position
        stops = self.choice == "stop" or self._in_row == MOST_SKIPPED
        name = "failed_batch.pt" if stops else f"skipped_batch_{epoch + 1}_{batch + 1}.pt"
        path = Path(folder) / name
        if ranks.rank() == 0:
            torch.save({**graph._asdict(), "labels": graph.labels._asdict()}, path)
        happened = (
            f"the {what} became {float(value.detach())} in epoch {epoch + 1}, batch {batch + 1} "
            f"({describe(graph)}): "
        )
        advice = (
            f"look at these frames (the batch is saved in {path}), lower train.optimizer.lr or set "
            "train.gradient_clip."
        )
        if stops:
            ranks.raise_together(TrainingError(happened + advice))
        self.skips, self.skipped = True, self.skipped + 1
        if ranks.rank() == 0:
            logger.warning("%sthe step is skipped; %s", happened, advice)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def out_of_memory(graph: AtomicGraph | None, position: tuple[int, int]) -> TrainingError:
    """The sentence for a batch that did not fit."""
    epoch, batch = position
    where = (
        f"in epoch {epoch + 1}, batch {batch + 1} ({describe(graph)})" if graph else "before the first batch"
    )
    return TrainingError(
        f"memory ran out {where}: lower data.batch.size (or bound it with data.batch.max_edges), "
        "data.batch.val_size, model.num_features, model.l_max or model.r_max."
    )
