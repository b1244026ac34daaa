"""From a frame to a graph: who is within the cutoff of whom.

vesin finds the pairs (measured against matscipy and ASE in docs/benchmarks), unsorted; one stable
sort by center follows. Right for cells smaller than the cutoff, slabs and wires, and without a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray
from vesin import NeighborList

from nequip.data.frame import FloatArray, Frame
from nequip.data.graph import AtomicGraph, Labels
from nequip.errors import DataError

IntArray = NDArray[np.int64]

# Closer than this no force is meaningful and directions lose their digits.
OVERLAP = 0.02  # Å


@dataclass(frozen=True)
class Cutoffs:
    """The global cutoff and, where given, one cutoff for each ordered pair of types.

    `per_edge_type[t_center][t_neighbor]` in Å, none above `r_max`.
    """

    r_max: float
    per_edge_type: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True)
class Neighbors:
    """Edges of one frame, sorted by center."""

    center: IntArray
    neighbor: IntArray
    shift: IntArray  # [edge, 3]


@dataclass(frozen=True)
class ScannedFrame:
    """One frame of a data set with its types and its edges."""

    frame: Frame
    types: IntArray
    neighbors: Neighbors


def edge_lengths(frame: Frame, neighbors: Neighbors) -> FloatArray:
    """`|r_j - r_i + S @ cell|` of every edge, Å."""
    start, end = frame.positions[neighbors.center], frame.positions[neighbors.neighbor]
    return np.linalg.norm(end - start + neighbors.shift @ frame.cell, axis=1)


def shortest_distance(frame: Frame, where: str = "structure") -> float:
    """The smallest distance between two atoms or images in Å, infinite where there is none below 1000.

    Raises:
        DataError: as `find_neighbors` does.
    """
    if frame.num_atoms < 2 and not any(frame.pbc):
        return float("inf")
    radius = 2.0
    while radius < 1000.0:
        neighbors = find_neighbors(frame, np.zeros_like(frame.numbers), Cutoffs(radius), where)
        if len(neighbors.center):
            return float(edge_lengths(frame, neighbors).min())
        radius *= 2
    return float("inf")


class TypeMapper:
    """Atomic numbers to the indices of a model's `type_names` (chemical symbols)."""

    def __init__(self, type_names: Sequence[str]):
        self.type_names = tuple(type_names)
        self._index = np.full(len(chemical_symbols), -1, dtype=np.int64)
        for index, name in enumerate(type_names):
            if name not in chemical_symbols:
                raise DataError(f"type name {name!r} is not a chemical symbol (H to Og).")
            if name in type_names[:index]:
                raise DataError(f"type name {name!r} is given twice.")
            self._index[chemical_symbols.index(name)] = index

    def __call__(self, numbers: IntArray, where: str = "structure") -> IntArray:
        """Raises DataError for an element that the model does not know, naming it."""
        types = self._index[numbers]
        if (types < 0).any():
            unknown = sorted({chemical_symbols[n] for n in numbers[types < 0]})
            raise DataError(
                f"{where} holds {', '.join(unknown)}, but the model knows only "
                f"{', '.join(self.type_names)}: add the element to type_names and train on it, "
                "or leave the structure out."
            )
        return types


def find_neighbors(frame: Frame, types: IntArray, cutoffs: Cutoffs, where: str = "structure") -> Neighbors:
    """All ordered pairs within their cutoff, sorted by center, ties in vesin's order.

    Raises:
        DataError: for positions or a cell that are not finite, a periodic direction without a lattice
            vector, and atoms closer than 0.02 Å.
    """
    if not np.isfinite(frame.positions).all():
        atom = int(np.argwhere(~np.isfinite(frame.positions))[0, 0])
        raise DataError(f"{where}: the position of atom {atom} is not a finite number.")
    if not np.isfinite(frame.cell).all():
        raise DataError(f"{where}: its cell is not made of finite numbers.")
    if frame.num_atoms == 0:
        none = np.zeros(0, dtype=np.int64)
        return Neighbors(none, none, none.reshape(0, 3))
    box = _search_box(frame, cutoffs.r_max, where)
    pairs = NeighborList(cutoff=cutoffs.r_max, full_list=True, sorted=False, n_threads=1)
    center, neighbor, shift, distance = pairs.compute(
        np.ascontiguousarray(frame.positions), box, any(frame.pbc), quantities="ijSd"
    )
    center, neighbor = center.astype(np.int64), neighbor.astype(np.int64)
    check_overlap(distance, center, neighbor, where)
    if cutoffs.per_edge_type is not None:
        limit = np.asarray(cutoffs.per_edge_type)[types[center], types[neighbor]]
        keep = distance < limit
        center, neighbor, shift = center[keep], neighbor[keep], shift[keep]
    order = np.argsort(center, kind="stable")
    return Neighbors(center[order], neighbor[order], np.take(shift, order, axis=0).astype(np.int64))


def check_overlap(
    distance: FloatArray, center: IntArray, neighbor: IntArray, where: str = "structure"
) -> None:
    """Raises DataError naming the closest pair if it is closer than 0.02 Å."""
    if len(distance) and distance.min() < OVERLAP:
        edge = int(distance.argmin())
        raise DataError(
            f"{where}: atoms {center[edge]} and {neighbor[edge]} overlap "
            f"({distance[edge]:.4f} Å apart): check the structure, its cell and its units (Å)."
        )


def atoms_overlap(frame: Frame) -> bool:
    """Whether two atoms are so close that `find_neighbors` refuses the frame."""
    try:
        find_neighbors(frame, np.zeros_like(frame.numbers), Cutoffs(OVERLAP))
    except DataError:
        return True
    return False


def _search_box(frame: Frame, r_max: float, where: str) -> FloatArray:
    """A box to search in as if it were periodic in all three directions.

    Open directions get a vector at right angles to the periodic ones, so long that images along it
    lie beyond the cutoff: their shifts are zero. (vesin 0.6 handles mixed directions too, but takes
    ten times longer for a wire of 20,000 atoms.)
    """
    periodic = [axis for axis in range(3) if frame.pbc[axis]]
    extent = np.linalg.norm(np.ptp(frame.positions, axis=0)) + r_max + 1.0
    if not periodic:
        return extent * np.eye(3)
    vectors = np.asarray(frame.cell, dtype=np.float64)[periodic]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    for axis, length in zip(periodic, lengths[:, 0], strict=True):
        if length < 1e-12:
            raise DataError(f"{where}: direction {axis} is periodic but its lattice vector is zero.")
    _, flatness, basis = np.linalg.svd(vectors / lengths, full_matrices=True)
    if flatness[-1] < 1e-6:
        raise DataError(f"{where}: the lattice vectors are linearly dependent.")
    box = np.empty((3, 3))
    box[periodic] = vectors
    box[[axis for axis in range(3) if not frame.pbc[axis]]] = extent * basis[len(periodic) :]
    return box


def build_graph(
    frame: Frame,
    mapper: TypeMapper,
    cutoffs: Cutoffs,
    *,
    neighbors: Neighbors | None = None,
    group: int = 0,
    index: int = 0,
    where: str = "structure",
) -> AtomicGraph:
    """One frame as a graph of float64 tensors, with `neighbors` where they are known already."""
    types = mapper(frame.numbers, where)
    if neighbors is None:
        neighbors = find_neighbors(frame, types, cutoffs, where)
    return graph_from_arrays(frame, types, neighbors, _labels(frame, group, index))


def graph_from_arrays(frame: Frame, types: IntArray, neighbors: Neighbors, labels: Labels) -> AtomicGraph:
    """Assemble the tensors; edges must be sorted by center."""
    row_ptr = np.zeros(frame.num_atoms + 1, dtype=np.int64)
    np.cumsum(np.bincount(neighbors.center, minlength=frame.num_atoms), out=row_ptr[1:])
    return AtomicGraph(
        positions=_tensor(frame.positions, np.float64).view(-1, 3),
        types=_tensor(types, np.int64),
        center=_tensor(neighbors.center, np.int64),
        neighbor=_tensor(neighbors.neighbor, np.int64),
        row_ptr=torch.from_numpy(row_ptr),
        transpose=torch.from_numpy(np.argsort(neighbors.neighbor, kind="stable")),
        shift=_tensor(neighbors.shift, np.float64).view(-1, 3),
        cell=_tensor(frame.cell, np.float64).view(1, 3, 3),
        batch=torch.zeros(frame.num_atoms, dtype=torch.int64),
        head=torch.zeros(1, dtype=torch.int64),
        labels=labels,
    )


def _tensor(values: ArrayLike, dtype: type[np.generic]) -> torch.Tensor:
    """A copy: `torch.tensor` takes three times as long, and a batch has hundreds of small ones."""
    return torch.from_numpy(np.array(values, dtype))


def _labels(frame: Frame, group: int, index: int) -> Labels:
    def tensor(value: FloatArray | float | None, shape: tuple[int, ...]) -> torch.Tensor:
        if value is None:
            return torch.full(shape, float("nan"), dtype=torch.float64)
        return _tensor(value, np.float64).view(shape)

    return Labels(
        energy=tensor(frame.energy, (1,)),
        forces=tensor(frame.forces, (frame.num_atoms, 3)),
        stress=tensor(frame.stress, (1, 3, 3)),
        weight=tensor(frame.weight, (1,)),
        group=_tensor([group], np.int64),
        index=_tensor([index], np.int64),
        dipole=None if frame.dipole is None else tensor(frame.dipole, (1, 3)),
        polarizability=None if frame.polarizability is None else tensor(frame.polarizability, (1, 3, 3)),
        born_charges=None
        if frame.born_charges is None
        else tensor(frame.born_charges, (frame.num_atoms, 3, 3)),
    )
