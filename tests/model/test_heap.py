"""What a call leaves behind in memory: nothing, whatever the architecture."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from ase.build import molecule

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.model.potential import Potential
from nequip.model.registry import build_potential, get_architecture

SHAPES: dict[str, dict[str, Any]] = {
    "nequip": {"num_layers": 2, "num_features": 4},
    "allegro": {"num_layers": 1, "num_scalar_features": 8, "num_tensor_features": 4},
    "mace": {"hidden_irreps": "4x0e+4x1o", "l_max": 1, "correlation": 2, "interaction_shift": 0.0},
}
NUM_CALLS = 100


def heap_in_use() -> int:
    """Bytes that were allocated and not given back, as glibc counts them."""

    class Counts(ctypes.Structure):
        _fields_ = [(f"count_{number}", ctypes.c_size_t) for number in range(10)]

    mallinfo = ctypes.CDLL("libc.so.6").mallinfo2
    mallinfo.restype = Counts
    return mallinfo().count_7


def left_by(call: Callable[[], Any]) -> float:
    """Bytes for each call, beyond what the first ones keep for good."""
    for _ in range(NUM_CALLS // 5):
        call()
    before = heap_in_use()
    for _ in range(NUM_CALLS):
        call()
    return (heap_in_use() - before) / NUM_CALLS


@pytest.fixture(params=list(SHAPES))
def potential(request) -> Potential:
    shape = {
        "name": request.param,
        "type_names": ("H", "O"),
        "r_max": 4.0,
        "avg_num_neighbors": 2.0,
        "per_type_energy_scales": 1.0,
        "per_type_energy_shifts": 0.0,
        "backend": "cpu",
    }
    schema = get_architecture(request.param).config
    return build_potential(schema.model_validate({**shape, **SHAPES[request.param]}))


@pytest.fixture
def graph(potential) -> AtomicGraph:
    water = molecule("H2O")
    frame = Frame(water.numbers, water.positions, water.cell.array, (False, False, False))
    return collate([build_graph(frame, TypeMapper(("H", "O")), potential.cutoffs)])


# Operators once lost a text at every call, 1300 bytes in an evaluation of NequIP (pytorch issue 191340).
@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
def test_evaluations_leave_nothing(potential, graph):
    potential.eval()
    assert left_by(lambda: potential(graph)) < 100


@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
def test_training_steps_leave_nothing(potential, graph):
    potential.train()

    def step() -> None:
        prediction = potential(graph)
        (prediction.forces.square().sum() + prediction.energy.sum()).backward()
        potential.zero_grad(set_to_none=True)

    assert left_by(step) < 100
    assert torch.isfinite(potential(graph).energy).all()
