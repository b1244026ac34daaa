"""Frames of a source as graphs, one structure each."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from nequip.data.draws import Draws
from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph
from nequip.data.neighbor_cache import NeighborCache, NeighborCacheWriter, open_neighbor_cache
from nequip.data.neighbors import (
    Cutoffs,
    IntArray,
    Neighbors,
    TypeMapper,
    atoms_overlap,
    build_graph,
    find_neighbors,
)
from nequip.data.sources import FrameSource, frame_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScannedFrame:
    """One frame of a data set with its types and its edges."""

    frame: Frame
    types: IntArray
    neighbors: Neighbors
    where: str


@dataclass(frozen=True)
class FrameRole:
    """What the frames of a data set are for: the readout that they ask, and how their labels count."""

    head: int = 0
    weight: float = 1.0  # times that of each frame
    energy_shifts: tuple[float, ...] | None = None  # eV, by type: added to the label of every atom's energy

    def apply(self, graph: AtomicGraph) -> AtomicGraph:
        """One structure in this role."""
        labels = graph.labels._replace(weight=graph.labels.weight * self.weight)
        if self.energy_shifts is not None:
            shifts = torch.tensor(self.energy_shifts, dtype=torch.float64)
            labels = labels._replace(energy=labels.energy + shifts[graph.types].sum())
        return graph._replace(head=torch.full_like(graph.head, self.head), labels=labels)


class GraphDataset(Dataset[AtomicGraph]):
    """Graphs of the frames `indices` of `source`; nothing is kept in memory but the indices.

    Neighbor lists are searched anew at every access until `scan` has written them to `cache_dir`.
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
        self._cache_folder = None if cache_dir is None else cache_dir / self._cache_name()
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

    def draw(self, generator: np.random.Generator) -> IntArray:
        """The positions that an epoch takes, in its order: all of them."""
        return generator.permutation(len(self))

    def identity(self) -> dict[str, str]:
        """What the graphs depend on."""
        frames = hashlib.sha256(self.indices.tobytes()).hexdigest()
        drawn = {} if self._draws is None else {"draws": repr(self._draws)}
        return {"source": self.source.fingerprint(), "frames": frames, "role": repr(self.role), **drawn}

    def num_atoms(self) -> IntArray:
        """Atoms of every frame."""
        return self.source.num_atoms()[self.indices]

    def num_edges(self) -> IntArray:
        """Edges of every frame; without a cache all neighbors are searched for it."""
        if self._cache is not None:
            return self._cache.num_edges()
        return np.array([len(scanned.neighbors.center) for scanned in self.scan()], dtype=np.int64)

    def scan(self) -> Iterator[ScannedFrame]:
        """Every frame in order with its edges; the first whole pass writes the neighbor cache.

        Raises:
            DataError: for unknown elements, overlapping atoms and the like, naming the frame.
        """
        if self._cache is None and self._cache_folder is not None:
            self._cache = open_neighbor_cache(self._cache_folder, len(self))
        if self._cache is not None or self._cache_folder is None:
            for position in range(len(self)):
                yield self._scan_one(position)
            return
        with NeighborCacheWriter(self._cache_folder) as writer:
            for position in range(len(self)):
                scanned = self._scan_one(position)
                writer.add(scanned.neighbors)
                yield scanned
            cache = writer.finish()
        self._cache = cache

    def _scan_one(self, position: int) -> ScannedFrame:
        index = int(self.indices[position])
        where = frame_name(self.source, index)
        frame = self.source[index]
        types = self.mapper(frame.numbers, where)
        cached = None if self._cache is None else self._cache[position]
        neighbors = cached or find_neighbors(frame, types, self.cutoffs, where)
        return ScannedFrame(frame, types, neighbors, where)

    def _cache_name(self) -> str:
        """A name that changes with whatever the neighbor lists depend on."""
        key = {
            "source": self.source.fingerprint(),
            "indices": hashlib.sha256(self.indices.tobytes()).hexdigest(),
            "types": self.mapper.type_names,
            "r_max": self.cutoffs.r_max,
            "per_edge_type": self.cutoffs.per_edge_type,
        }
        return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
