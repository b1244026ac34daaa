"""The model of scripts/bench.py and its water box, ready to be evaluated."""

from __future__ import annotations

import numpy as np
from bench import MODEL, water_box

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.model.nequip import NequIPConfig
from nequip.model.potential import Potential
from nequip.model.registry import build_potential


def water(atoms: int, backend: str, dtype: str, device: str) -> tuple[AtomicGraph, Potential]:
    """A box of about `atoms` atoms of water (the nearest cube of molecules), and the model for it."""
    model = build_potential(NequIPConfig(**MODEL, backend=backend, dtype=dtype)).eval().to(device)
    box = water_box(atoms // 3)
    frame = Frame(box.numbers, box.positions, np.asarray(box.cell), (True, True, True))
    graph = build_graph(frame, TypeMapper(model.card.type_names), model.cutoffs)
    return graph.to(device), model
