"""What stops training for good, said so that the user can find the frames and the way out."""

from __future__ import annotations

from pathlib import Path

import torch

from nequip.data.graph import AtomicGraph
from nequip.errors import TrainingError
from nequip.train import ranks
from nequip.typing import Float, Tensor

# How the allocators of torch say it; on a CPU it is a plain RuntimeError.
_OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


def describe(graph: AtomicGraph) -> str:
    """The size of a batch and the frames in it."""
    frames = [str(index) for index in graph.labels.index.tolist()]
    shown = ", ".join(frames[:20]) + (f", and {len(frames) - 20} more" if len(frames) > 20 else "")
    return f"{graph.num_graphs} structures, {graph.num_atoms} atoms, {graph.num_edges} edges; frames {shown}"


def check_finite(
    value: Float[Tensor, ""], what: str, graph: AtomicGraph, position: tuple[int, int], folder: str
) -> None:
    """Stop at the first loss or gradient that is not finite, before it reaches the weights.

    `value` is that of all processes, `graph` the part of the batch that this one holds.

    Raises:
        TrainingError: naming epoch, batch and frames; the batch lies in `folder` for inspection.
    """
    if torch.isfinite(value):
        return
    graph = ranks.whole_batch(graph)
    path = Path(folder) / "failed_batch.pt"
    if ranks.rank() == 0:
        torch.save({**graph._asdict(), "labels": graph.labels._asdict()}, path)
    epoch, batch = position
    error = TrainingError(
        f"the {what} became {float(value.detach())} in epoch {epoch + 1}, batch {batch + 1} "
        f"({describe(graph)}): look at these frames (the batch is saved in {path}), lower "
        "train.optimizer.lr or set train.gradient_clip."
    )
    ranks.raise_together(error)


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
