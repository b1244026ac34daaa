"""A potential against reference data: labels and predictions side by side, and how far they are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.io import write
from numpy.typing import NDArray

from nequip.data.dataset import GraphDataset
from nequip.data.frame import FloatArray
from nequip.data.graph import AtomicGraph, Labels, collate
from nequip.data.progress import progress as show_progress
from nequip.data.sources import FrameSource
from nequip.errors import DataError, ModelError
from nequip.model.card import ModelCard
from nequip.model.potential import Potential
from nequip.nn.derivatives import Prediction
from nequip.train.metrics import ErrorMetrics

IntArray = NDArray[np.int64]


class Values(NamedTuple):
    """Energies, forces and stresses of all frames, one after the other; NaN where there is none."""

    energy: FloatArray  # [frame] eV
    forces: FloatArray  # [atom, 3] eV/Å
    stress: FloatArray  # [frame, 3, 3] eV/Å³, positive under tension


@dataclass(frozen=True)
class Evaluation:
    """What a potential says of every frame of a data set, beside the labels."""

    card: ModelCard
    source: FrameSource
    group_names: tuple[str, ...]
    index: IntArray  # [frame] position in the source
    group: IntArray  # [frame] index into group_names
    row_ptr: IntArray  # [frame+1] atoms of frame f: row_ptr[f]:row_ptr[f+1]
    types: IntArray  # [atom] index into card.type_names
    reference: Values
    predicted: Values
    errors: dict[str, float]  # the table of ErrorMetrics, eV and Å

    @property
    def num_frames(self) -> int:
        return len(self.index)

    @cached_property
    def num_atoms(self) -> IntArray:
        """Atoms of each frame."""
        return np.diff(self.row_ptr)

    @cached_property
    def energy_error(self) -> FloatArray:
        """Predicted minus reference energy of each frame, eV per atom."""
        return (self.predicted.energy - self.reference.energy) / np.maximum(self.num_atoms, 1)

    @cached_property
    def forces_error(self) -> FloatArray:
        """Root mean square of the force errors of each frame over its labelled components, eV/Å."""
        square = ((self.predicted.forces - self.reference.forces) ** 2).mean(1)
        labelled = np.isfinite(self.reference.forces).all(1)
        frame = np.repeat(np.arange(self.num_frames), self.num_atoms)[labelled]
        total = np.bincount(frame, square[labelled], minlength=self.num_frames)
        count = np.bincount(frame, minlength=self.num_frames)
        return np.sqrt(np.divide(total, count, out=np.full(self.num_frames, np.nan), where=count > 0))

    def worst(self, by: Literal["energy", "forces"], count: int = 10) -> IntArray:
        """The frames with the largest errors, worst first, NaN before all; none without a label."""
        if by == "energy":
            error, has_label = np.abs(self.energy_error), np.isfinite(self.reference.energy)
        else:
            rows = np.isfinite(self.reference.forces).all(1) & (not self.card.energy_only)
            frame_of_row = np.repeat(np.arange(self.num_frames), self.num_atoms)
            has_label = np.bincount(frame_of_row[rows], minlength=self.num_frames) > 0
            error = self.forces_error
        labelled = np.flatnonzero(has_label)
        size = np.where(np.isnan(error), np.inf, error)[labelled]
        return labelled[np.argsort(-size, kind="stable")][:count]

    def formula(self, frame: int) -> str:
        """Chemical formula, carbon and hydrogen first."""
        types = self.types[self.row_ptr[frame] : self.row_ptr[frame + 1]]
        return str(Atoms([self.card.type_names[t] for t in types]).symbols.formula.format("hill"))

    def save_predictions(self, path: str | Path) -> None:
        """Write every frame as extended XYZ with `REF_` and `pred_` energy, forces and stress.

        `source_index` is the position of the frame in its source. The labels are found again by
        `open_source`, so the file can be evaluated with another potential.
        """
        with Path(path).open("w", encoding="utf-8") as file:
            for frame in range(self.num_frames):
                write(file, self.atoms(frame), format="extxyz")

    def atoms(self, frame: int) -> Atoms:
        """One frame with reference and predicted values in `info` and `arrays`."""
        structure = self.source[int(self.index[frame])]
        atoms = Atoms(structure.numbers, structure.positions, cell=structure.cell, pbc=structure.pbc)
        atoms.info["source_index"] = int(self.index[frame])
        if structure.group:
            atoms.info["group"] = structure.group
        rows = slice(self.row_ptr[frame], self.row_ptr[frame + 1])
        for prefix, values in (("REF", self.reference), ("pred", self.predicted)):
            if np.isfinite(values.energy[frame]):
                atoms.info[f"{prefix}_energy"] = float(values.energy[frame])
            if np.isfinite(values.stress[frame]).all():
                atoms.info[f"{prefix}_stress"] = values.stress[frame]
            if np.isfinite(values.forces[rows]).any():
                atoms.arrays[f"{prefix}_forces"] = values.forces[rows]
        return atoms


def evaluate(
    potential: Potential, dataset: GraphDataset, *, batch_size: int = 32, progress: str | None = None
) -> Evaluation:
    """Predict every frame of `dataset`, in its order; only labels and predictions stay in memory.

    The potential computes where its parameters lie; its training mode is restored afterwards.

    Args:
        batch_size: frames in one call of the potential.
        progress: what to call the pass on a progress bar; None shows none.

    Raises:
        DataError: for a data set without frames, and for frames that the potential cannot take.
        ModelError: if a batch does not fit into memory.
    """
    if not len(dataset):
        raise DataError(f"{dataset.source.name}: there is no frame to evaluate.")
    metrics = ErrorMetrics(potential.card.type_names, dataset.groups)
    frames: Iterable[int] = range(len(dataset))
    if progress is not None:
        frames = show_progress(frames, progress, len(dataset))
    was_training = potential.training
    potential.eval()
    parts = []
    for batch in _batches(frames, batch_size):
        graph, prediction = _predict(potential, [dataset[position] for position in batch])
        metrics.update(prediction, graph)
        parts.append(_Part.of(graph, prediction))
    potential.train(was_training)
    return _assemble(potential.card, dataset, parts, metrics.compute())


def evaluation_device(accelerator: str) -> str:
    """Where a potential is evaluated in a run with this `trainer.accelerator`."""
    on_gpu = accelerator not in ("cpu", "mps") and torch.cuda.is_available()
    return "cuda" if on_gpu else "cpu"


def _batches(frames: Iterable[int], size: int) -> Iterator[list[int]]:
    iterator = iter(frames)
    while batch := list(islice(iterator, size)):
        yield batch


def _predict(potential: Potential, graphs: list[AtomicGraph]) -> tuple[AtomicGraph, Prediction]:
    device = next(potential.parameters(), torch.zeros(0)).device
    graph = collate(graphs)
    try:
        graph = graph.to(device)
        knows_field = potential.field_readout is not None
        potential.predict_born_charges = knows_field and graph.labels.born_charges is not None
        return graph, potential(graph)
    except torch.OutOfMemoryError as error:
        first, last = graph.labels.index[[0, -1]].tolist()
        raise ModelError(
            f"out of memory on {device} with frames {first} to {last} ({graph.num_atoms} atoms, "
            f"{graph.num_edges} edges in {graph.num_graphs} frames): lower the batch size."
        ) from error


class _Part(NamedTuple):
    """One batch, off the device."""

    index: IntArray
    group: IntArray
    num_atoms: IntArray
    types: IntArray
    reference: Values
    predicted: Values

    @classmethod
    def of(cls, graph: AtomicGraph, prediction: Prediction) -> _Part:
        labels = graph.labels
        return cls(
            index=_numpy(labels.index),
            group=_numpy(labels.group),
            num_atoms=_numpy(torch.bincount(graph.batch, minlength=graph.num_graphs)),
            types=_numpy(graph.types),
            reference=_values(labels, labels),
            predicted=_values(prediction, labels),
        )


def _values(values: Labels | Prediction, like: Labels) -> Values:
    def filled(name: Literal["energy", "forces", "stress"]) -> FloatArray:
        value = getattr(values, name)
        return _numpy(torch.full_like(getattr(like, name), torch.nan) if value is None else value)

    return Values(filled("energy"), filled("forces"), filled("stress"))


def _numpy(tensor: torch.Tensor) -> NDArray:
    return tensor.detach().cpu().numpy()


def _assemble(
    card: ModelCard, dataset: GraphDataset, parts: Sequence[_Part], errors: dict[str, float]
) -> Evaluation:
    def joined(pick: Callable[[_Part], NDArray]) -> NDArray:
        return np.concatenate([pick(part) for part in parts])

    def values(side: Literal["reference", "predicted"]) -> Values:
        return Values(
            *(np.concatenate(column) for column in zip(*(getattr(p, side) for p in parts), strict=True))
        )

    row_ptr = np.concatenate([[0], np.cumsum(joined(lambda part: part.num_atoms))]).astype(np.int64)
    return Evaluation(
        card=card,
        source=dataset.source,
        group_names=dataset.groups,
        index=joined(lambda part: part.index),
        group=joined(lambda part: part.group),
        row_ptr=row_ptr,
        types=joined(lambda part: part.types),
        reference=values("reference"),
        predicted=values("predicted"),
        errors=errors,
    )
