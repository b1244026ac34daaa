"""Inputs of the right shapes to trace with."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nequip.export.card import INPUTS, Target
from nequip.typing import Tensor


class Sizes(NamedTuple):
    """Numbers of what inputs have; no two of them equal, or a trace takes one for the other."""

    owned: int
    ghosts: int  # for target lammps alone
    edges: int
    graphs: int


# Two to trace at, and one to compile with: code that runs on many threads is written where that is large.
FIRST, SECOND = Sizes(13, 10, 61, 5), Sizes(17, 14, 83, 7)
TYPICAL = Sizes(1009, 1500, 50021, 11)


def example_inputs(target: Target, sizes: Sizes, num_types: int, device: str) -> tuple[Tensor, ...]:
    """A random graph of these sizes in the order of `INPUTS`."""
    draw = torch.Generator().manual_seed(0)
    owned, edges = sizes.owned, sizes.edges
    atoms = owned + (sizes.ghosts if target == "lammps" else 0)
    graphs = sizes.graphs if target == "batch" else 1
    center = torch.randint(0, owned, (edges,), generator=draw).sort().values
    row_ptr = torch.zeros(owned + 1, dtype=torch.int64)
    row_ptr[1:] = torch.bincount(center, minlength=owned).cumsum(0)
    values = {
        "edge_vector": torch.randn(edges, 3, generator=draw, dtype=torch.float64),
        "positions": torch.randn(atoms, 3, generator=draw, dtype=torch.float64),
        "types": torch.randint(0, num_types, (atoms,), generator=draw),
        "center": center,
        "neighbor": torch.randint(0, atoms, (edges,), generator=draw),
        "row_ptr": row_ptr,
        "shift": torch.zeros(edges, 3, dtype=torch.float64),
        "cell": torch.eye(3, dtype=torch.float64).repeat(graphs, 1, 1),
        "batch": torch.arange(atoms) % graphs,
    }
    return tuple(values[name].to(device) for name in INPUTS[target])


def dynamic_shapes(target: Target) -> tuple[dict[int, object], ...]:
    """Which sizes of the inputs are free, and which of them are one, for torch.export."""
    atom, owned, edge, graph = (torch.export.Dim(name, min=1) for name in ("atom", "owned", "edge", "graph"))
    rows = (owned if target == "lammps" else atom) + 1
    dims: dict[str, object] = dict.fromkeys(("edge_vector", "center", "neighbor", "shift"), edge)
    dims |= {"positions": atom, "types": atom, "batch": atom, "row_ptr": rows, "cell": graph}
    fixed = {"cell"} if target == "ase" else set()
    return tuple({} if name in fixed else {0: dims[name]} for name in INPUTS[target])
