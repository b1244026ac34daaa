"""Frames of a source as graphs, one structure each."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from nequip.data.draws import Draws
from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph
from nequip.data.neighbor_cache import CacheFolder, NeighborCache
from nequip.data.neighbors import (
    Cutoffs,
    IntArray,
    Neighbors,
    ScannedFrame,
    TypeMapper,
    atoms_overlap,
    build_graph,
    find_neighbors,
)
from nequip.data.order import BLOCK, WINDOW, shuffled
from nequip.data.scanning import scan
from nequip.data.sources import FrameSource, frame_name
from nequip.data.statistics import Tally


@dataclass(frozen=True)
class FrameRole:
    """What the frames of a data set are for: the readout that they ask, and how their labels count."""

    head: int = 0
    weight: float = 1.0  # times that of each frame
    energy_shifts: tuple[float, ...] | None = None  # eV, by type: added to the label of every atom's energy

    def apply(self, graph: AtomicGraph) -> AtomicGraph:
        """One structure in this role."""
        if self == FrameRole():
            return graph
        labels = graph.labels._replace(weight=graph.labels.weight * self.weight)
        if self.energy_shifts is not None:
            shifts = torch.tensor(self.energy_shifts, dtype=torch.float64)
            labels = labels._replace(energy=labels.energy + shifts[graph.types].sum())
        return graph._replace(head=torch.full_like(graph.head, self.head), labels=labels)


class GraphDataset(Dataset[AtomicGraph]):
    """Graphs of the frames `indices` of `source`; nothing is kept in memory but the indices.

    Neighbor lists are searched anew at every access until `prepare` has written them to `cache_dir`;
    from then on not even the indices are in the memory of a process, but in a file that is mapped.
    """

    def __init__(
        self,
        source: FrameSource,
        indices: IntArray,
        mapper: TypeMapper,
        cutoffs: Cutoffs,
        *,
        groups: Sequence[str] = ("",),
        cache_dir: Path | None = None,
        role: FrameRole | None = None,
    ):
        """`groups` are the names that `Labels.group` points into; frames of others get 0."""
        self.source = source
        self.indices = np.asarray(indices, dtype=np.int64)
        self.mapper = mapper
        self.cutoffs = cutoffs
        self.groups = tuple(groups)
        self.role = role or FrameRole()
        self._group_index = {name: number for number, name in enumerate(self.groups)}
        self._frames_hash = hashlib.sha256(self.indices.tobytes()).hexdigest()
        self._folder: CacheFolder | None = None
        if cache_dir is not None and len(self.indices):
            self._folder = CacheFolder(cache_dir / self._cache_name(), len(self.indices))
        self._cache: NeighborCache | None = None
        self._draws: Draws | None = None
        self._epoch = torch.zeros((), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> AtomicGraph:
        index = int(self.indices[position])
        frame = self.source[index]
        neighbors = None if self._cache is None else self._cache[position]
        make = self._graph if self._draws is None else self._drawn
        return self.role.apply(make(frame, neighbors, index))

    def _graph(self, frame: Frame, neighbors: Neighbors | None, index: int) -> AtomicGraph:
        return build_graph(
            frame,
            self.mapper,
            self.cutoffs,
            neighbors=neighbors,
            group=self._group_index.get(frame.group, 0),
            index=index,
            where=frame_name(self.source, index),
        )

    def _drawn(self, frame: Frame, neighbors: Neighbors | None, index: int) -> AtomicGraph:
        """The graph of a frame with what this epoch draws of it."""
        draws = self._draws
        assert draws is not None
        rng = draws.rng(int(self._epoch), index)
        labels: dict[str, torch.Tensor] = {}
        if draws.noise is not None:
            moved, noise = draws.noise.apply(frame, rng)
            if moved is not frame and atoms_overlap(moved):
                noise[:] = np.nan
            elif moved is not frame:
                frame, neighbors = moved, None
            labels["noise"] = torch.tensor(noise)
        if draws.directions is not None:
            directions, products = draws.directions.draw(frame, rng)
            labels |= {"directions": torch.tensor(directions), "products": torch.tensor(products)}
        if draws.waves is not None:
            q, patterns, values = draws.waves.draw(frame, rng)
            labels["q"], labels["patterns"] = torch.tensor(q), torch.tensor(patterns)
            labels["responses"] = torch.tensor(values)
        graph = self._graph(frame, neighbors, index)
        return graph._replace(labels=graph.labels._replace(**labels))

    def in_role(self, role: FrameRole) -> GraphDataset:
        """The same frames in another role."""
        other = copy.copy(self)
        other.role = role
        return other

    def with_draws(self, draws: Draws) -> GraphDataset:
        """The same frames, of which something is drawn anew in every epoch."""
        other = copy.copy(self)
        other._draws = draws
        # where workers that outlive an epoch see it too
        other._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        return other

    def start_epoch(self, epoch: int) -> None:
        """Draw what belongs to `epoch` from now on."""
        self._epoch.fill_(epoch)

    def draw(self, generator: np.random.Generator) -> Iterator[IntArray]:
        """The positions that an epoch takes, in its order: all of them."""
        return shuffled(len(self), generator)

    def identity(self) -> dict[str, Any]:
        """What the graphs and their order depend on."""
        drawn = {} if self._draws is None else {"draws": repr(self._draws)}
        order = {} if len(self) <= WINDOW else {"window": [WINDOW, BLOCK]}
        source = {"source": self.source.fingerprint(), "frames": self._frames_hash}
        return {**source, "role": repr(self.role), **drawn, **order}

    def num_atoms(self, positions: IntArray) -> IntArray:
        """Atoms of these frames; where `prepare` was not called, all neighbors are searched for it."""
        return self._prepared().num_atoms(positions)

    def num_edges(self, positions: IntArray) -> IntArray:
        """Edges of these frames; where `prepare` was not called, all neighbors are searched for it."""
        return self._prepared().num_edges(positions)

    def place(self, position: int) -> int:
        """Index of a frame in its source."""
        return int(self.indices[position])

    @property
    def num_types(self) -> int:
        """How many types of atoms the graphs may hold."""
        return len(self.mapper.type_names)

    def prepare(self, num_workers: int = 0, *, label: str = "", process: int = 0) -> Tally:
        """Write the neighbor cache, or find it written, and return what statistics need of the frames.

        Arguments and errors are those of `scanning.scan`.
        """
        cache, indices, tally = scan(
            self, self._folder, num_workers=num_workers, label=label, process=process
        )
        self._cache, self.indices = cache, indices
        return tally

    def scan(self, positions: range) -> Iterator[ScannedFrame]:
        """Frames with their edges, which are searched.

        Raises:
            DataError: for unknown elements, overlapping atoms and the like, naming the frame.
        """
        for index in self.indices[positions.start : positions.stop].tolist():
            frame, where = self.source[index], frame_name(self.source, index)
            types = self.mapper(frame.numbers, where)
            yield ScannedFrame(frame, types, find_neighbors(frame, types, self.cutoffs, where))

    def _prepared(self) -> NeighborCache:
        if self._cache is None:
            self.prepare()
        assert self._cache is not None
        return self._cache

    def _cache_name(self) -> str:
        """A name that changes with whatever the neighbor lists and statistics depend on."""
        key = {
            "version": 3,
            "source": self.source.fingerprint(),
            "indices": self._frames_hash,
            "types": self.mapper.type_names,
            "r_max": self.cutoffs.r_max,
            "per_edge_type": self.cutoffs.per_edge_type,
        }
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
