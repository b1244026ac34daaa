"""Whether a compiled potential computes what the potential does: in a process that has the file alone."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from math import inf
from pathlib import Path

import torch

from nequip.data.copies import with_ghosts
from nequip.data.graph import AtomicGraph, collate
from nequip.errors import ModelError
from nequip.export.card import ArtefactCard
from nequip.export.structures import comparison_graphs
from nequip.model.potential import Potential
from nequip.nn.derivatives import Prediction
from nequip.typing import Float, Tensor

# Largest difference, relative to the largest value.
TOLERANCES = {"float32": 2e-5, "float64": 1e-10}
SMALLEST = 1e-3  # of a largest value: eV, eV/Å, ...

Case = tuple[list[Tensor], Tensor | None]  # inputs, and owners of ghosts


def verify(path: Path, card: ArtefactCard, potential: Potential) -> float:
    """The largest relative difference between the file and `potential`, over structures of many sizes.

    Raises:
        ModelError: naming the first structure and value that differ by more than rounding.
    """
    graphs = _graphs(card, potential)
    cases = {name: _case(graph, card) for name, graph in graphs.items()}
    worst = 0.0
    for (name, graph), outputs in zip(graphs.items(), _in_another_process(path, cases), strict=True):
        for label, value, exact in _compared(card, graph, outputs, potential(graph)):
            error = _difference(value, exact.cpu())
            if not error < TOLERANCES[card.dtype]:
                raise ModelError(
                    f"the compiled potential is wrong: {label} of {name} differs by {error:.1g} (relative); "
                    "no file was written: tell us of it."
                )
            worst = max(worst, error)
    return worst


def _graphs(card: ArtefactCard, potential: Potential) -> dict[str, AtomicGraph]:
    device = next(potential.parameters()).device
    graphs = comparison_graphs(card.type_names, potential.cutoffs)
    if card.target == "batch":
        graphs["all of them at once"] = collate([*graphs.values()])
    heads = {name: torch.full_like(graph.head, card.head) for name, graph in graphs.items()}
    return {name: graph._replace(head=heads[name]).to(device) for name, graph in graphs.items()}


def _case(graph: AtomicGraph, card: ArtefactCard) -> Case:
    graph = graph.to("cpu")
    if card.target != "lammps":
        return [getattr(graph, name) for name in card.inputs], None
    unfolded, owner = with_ghosts(graph)
    return [_vectors(graph), unfolded.types, graph.center, unfolded.neighbor, graph.row_ptr], owner


def _vectors(graph: AtomicGraph) -> Float[Tensor, "edge 3"]:
    ends = graph.positions[graph.neighbor] - graph.positions[graph.center]
    return ends + graph.shift @ graph.cell[0]


def _in_another_process(path: Path, cases: dict[str, Case]) -> list[list[Tensor]]:
    """Outputs for each case, from a process that knows nothing but the file."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "inputs.pt", Path(folder) / "outputs.pt"
        torch.save([*cases.values()], source)
        command = [sys.executable, "-m", "nequip.export.rerun", str(path), str(source), str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ModelError(f"the compiled potential does not run ({said[:300]}), so no file was written.")
        return torch.load(target)


def _compared(
    card: ArtefactCard, graph: AtomicGraph, outputs: list[Tensor], exact: Prediction
) -> list[tuple[str, Tensor, Tensor]]:
    """Names, what the file says, and what the potential says."""
    if card.target != "lammps":
        return [
            (name, value, getattr(exact, name)) for name, value in zip(card.outputs, outputs, strict=True)
        ]
    energies, gradient = outputs
    graph = graph.to("cpu")
    forces = torch.zeros_like(graph.positions).index_add(0, graph.center, gradient)
    forces = forces.index_add(0, graph.neighbor, -gradient)
    virial = -(_vectors(graph).T @ gradient)
    assert exact.forces is not None
    assert exact.virial is not None
    return [
        ("atomic_energies", energies, exact.atomic_energies),
        ("forces", forces, exact.forces),
        ("virial", 0.5 * (virial + virial.T), exact.virial[0]),
    ]


def _difference(value: Tensor, exact: Tensor) -> float:
    """Largest, relative to the largest value; NaN must be where it should be."""
    if value.shape != exact.shape or not torch.equal(value.isnan(), exact.isnan()):
        return inf
    if value.numel() == 0:
        return 0.0
    value, exact = value.nan_to_num(), exact.nan_to_num()
    return float((value - exact).abs().max() / exact.abs().max().clamp(min=SMALLEST))
