"""The one structure that every model eats: a batch of atomic structures with their edges."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from nequip.typing import Float, Int, Tensor


class Labels(NamedTuple):
    """Reference values of a batch; what is missing is NaN, so that shapes never depend on the data.

    What training draws (nequip.data.draws) is None where it does not: for all frames of a data set or none.
    Labels of electric fields are None where no frame of a batch has them.
    """

    energy: Float[Tensor, " graph"]  # eV, total
    forces: Float[Tensor, "atom 3"]  # eV/Å
    stress: Float[Tensor, "graph 3 3"]  # eV/Å³, positive under tension
    weight: Float[Tensor, " graph"]  # weight of the frame in the loss, 1 by default
    group: Int[Tensor, " graph"]  # index into the data set's group names, 0 by default
    index: Int[Tensor, " graph"]  # pyright: ignore[reportIncompatibleMethodOverride]  # position in its source
    noise: Float[Tensor, "atom 3"] | None = None  # ε of displacements σ ε; NaN for atoms left alone
    directions: Float[Tensor, "atom direction 3"] | None = None  # unit vectors of all atoms of a structure
    products: Float[Tensor, "atom direction 3"] | None = None  # of the Hessian with them, eV/Å²
    q: Float[Tensor, "graph wave 3"] | None = None  # in units of the reciprocal lattice vectors
    patterns: Float[Tensor, "atom wave 3 2"] | None = None  # real and imaginary parts of u in u exp(2πi q·R)
    responses: Float[Tensor, "atom wave 3 2"] | None = None  # and of force constants Φ(q) times them, eV/Å²
    dipole: Float[Tensor, "graph 3"] | None = None  # e·Å
    polarizability: Float[Tensor, "graph 3 3"] | None = None  # e·Å²/V
    born_charges: Float[Tensor, "atom 3 3"] | None = None  # e, change of dipole_i by x_j as [atom, i, j]

    def to(self, device: torch.device | str) -> Labels:
        """The same labels with every tensor on `device`."""
        moved: dict[str, Any] = {
            name: None if value is None else value.to(device) for name, value in self._asdict().items()
        }
        return Labels(**moved)


class AtomicGraph(NamedTuple):
    """Atoms, their neighbors and labels; several structures side by side. A pytree of tensors.

    Edges are sorted by `center` (ascending), with row pointers and the permutation that sorts
    them by `neighbor` beside them: sums over edges need no atomics in either direction.

    The first `num_owned` atoms are centers; atoms after them, where there are any, are copies of atoms that
    another process owns ("ghosts"), without energies and edges of their own.
    """

    positions: Float[Tensor, "atom 3"]  # Å, float64
    types: Int[Tensor, " atom"]  # index into type_names
    center: Int[Tensor, " edge"]  # sorted ascending
    neighbor: Int[Tensor, " edge"]
    row_ptr: Int[Tensor, " atom+1"]  # edges of atom i: row_ptr[i]:row_ptr[i+1]
    transpose: Int[Tensor, " edge"]  # permutation that sorts edges by neighbor
    shift: Float[Tensor, "edge 3"]  # lattice shifts, whole numbers
    cell: Float[Tensor, "graph 3 3"]  # rows are lattice vectors; zeros where there is no cell
    batch: Int[Tensor, " atom"]  # graph of each atom
    head: Int[Tensor, " graph"]  # which of a model's readouts is asked, where it has several
    labels: Labels
    field: Float[Tensor, "graph 3"] | None = None  # electric, V/Å; None: zero

    @property
    def num_atoms(self) -> int:
        return self.positions.shape[0]

    @property
    def num_owned(self) -> int:
        """Atoms that are centers: all, but in a part of a structure that is divided over processes."""
        return self.row_ptr.shape[0] - 1

    @property
    def owned_types(self) -> Int[Tensor, " owned"]:
        """Types of the atoms that are centers."""
        return self.types[: self.num_owned]

    @property
    def num_edges(self) -> int:
        return self.center.shape[0]

    @property
    def num_graphs(self) -> int:
        return self.cell.shape[0]

    def to(self, device: torch.device | str) -> AtomicGraph:
        """The same graph with every tensor on `device`."""
        moved: dict[str, Any] = {
            name: None if value is None else value.to(device) for name, value in self._asdict().items()
        }
        return AtomicGraph(**moved)


def collate(graphs: list[AtomicGraph]) -> AtomicGraph:
    """Put structures side by side in one graph; edges stay sorted by center.

    Raises:
        ValueError: for an empty list.
    """
    if not graphs:
        raise ValueError("cannot collate an empty list of graphs")
    atoms = _offsets([graph.num_atoms for graph in graphs])
    edges = _offsets([graph.num_edges for graph in graphs])
    number = _offsets([graph.num_graphs for graph in graphs])
    row_ptr = [graph.row_ptr[:-1] + edge for graph, edge in zip(graphs, edges, strict=True)]
    row_ptr.append(graphs[-1].row_ptr[-1:] + edges[-1])
    return AtomicGraph(
        positions=torch.cat([graph.positions for graph in graphs]),
        types=torch.cat([graph.types for graph in graphs]),
        center=_shifted([graph.center for graph in graphs], atoms),
        neighbor=_shifted([graph.neighbor for graph in graphs], atoms),
        row_ptr=torch.cat(row_ptr),
        transpose=_shifted([graph.transpose for graph in graphs], edges),
        shift=torch.cat([graph.shift for graph in graphs]),
        cell=torch.cat([graph.cell for graph in graphs]),
        batch=_shifted([graph.batch for graph in graphs], number),
        head=torch.cat([graph.head for graph in graphs]),
        labels=_join_labels([graph.labels for graph in graphs]),
        field=_join_present([graph.field for graph in graphs], [graph.num_graphs for graph in graphs], 0.0),
    )


def _join_labels(labels: list[Labels]) -> Labels:
    joined: dict[str, Any] = {}
    num_graphs, num_atoms = [len(each.energy) for each in labels], [len(each.forces) for each in labels]
    for name in Labels._fields:
        rows = num_atoms if name == "born_charges" else num_graphs
        joined[name] = _join_present([getattr(each, name) for each in labels], rows, torch.nan)
    return Labels(**joined)


def _join_present(values: list[Tensor | None], rows: list[int], missing: float) -> Tensor | None:
    """One after the other, `missing` in as many rows as a structure has where it alone has none."""
    like = next((value for value in values if value is not None), None)
    if like is None:
        return None
    return torch.cat(
        [
            like.new_full((number, *like.shape[1:]), missing) if value is None else value
            for value, number in zip(values, rows, strict=True)
        ]
    )


def _offsets(sizes: list[int]) -> list[int]:
    total, offsets = 0, []
    for size in sizes:
        offsets.append(total)
        total += size
    return offsets


def _shifted(values: list[Tensor], offsets: list[int]) -> Tensor:
    return torch.cat([value + offset for value, offset in zip(values, offsets, strict=True)])
