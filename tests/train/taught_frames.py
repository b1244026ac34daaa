"""Frames whose labels are what a potential says of them, and constants for each element on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write

from nequip.data.frame import Frame
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.model.potential import Potential
from nequip.model.registry import build_potential, get_architecture

SHAPES: dict[str, dict[str, Any]] = {
    "tiny_pairs": {},
    "nequip": {"num_layers": 2, "l_max": 1, "num_features": 4, "radial_mlp_width": 8},
    "allegro": {"num_layers": 1, "l_max": 1, "num_scalar_features": 8, "num_tensor_features": 4},
    "mace": {
        "hidden_irreps": "4x0e+4x1o",
        "l_max": 1,
        "correlation": 2,
        "radial_mlp": (8,),
        "interaction_shift": 0.0,
    },
}
BASE = {
    "type_names": ("H", "Cu"),
    "r_max": 4.0,
    "avg_num_neighbors": 6.0,
    "per_type_energy_scales": None,
    "per_type_energy_shifts": None,
    "dtype": "float64",
    "backend": "reference",
}


def teacher(name: str = "tiny_pairs", **changes: Any) -> Potential:
    """A small potential of H and Cu with weights drawn from a seed."""
    schema = get_architecture(name).config
    return build_potential(schema.model_validate({"name": name, **BASE, **SHAPES[name], **changes})).eval()


def crystal(index: int, elements: Sequence[str] = ("H", "Cu"), spacing: float = 2.5) -> Atoms:
    """A few atoms near the corners of cubes."""
    rng = np.random.default_rng(index)
    number = 4 + index % 3
    positions = np.indices((2, 2, 2)).reshape(3, -1).T[:number] * spacing
    return Atoms(rng.choice(elements, number), positions + rng.normal(0, 0.15, (number, 3)))


def taught(
    frames: Sequence[Atoms], potential: Potential, shifts: Mapping[str, float] | None = None
) -> list[Atoms]:
    """The frames with energies and forces of `potential`, and `shifts` added for each atom."""
    mapper = TypeMapper(potential.card.type_names)
    labelled = []
    for atoms in frames:
        frame = Frame(atoms.numbers, atoms.positions)
        predicted = potential(build_graph(frame, mapper, potential.cutoffs))
        labelled.append(atoms.copy())
        constant = sum((shifts or {}).get(symbol, 0.0) for symbol in atoms.symbols)
        labelled[-1].info["REF_energy"] = predicted.energy.item() + constant
        labelled[-1].arrays["REF_forces"] = predicted.forces.detach().numpy()
    return labelled


def saved(frames: Sequence[Atoms], path: Path) -> str:
    write(path, list(frames), format="extxyz")
    return str(path)
