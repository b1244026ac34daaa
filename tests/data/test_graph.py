from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import Cutoffs, TypeMapper, build_graph

MAPPER, CUTOFFS = TypeMapper(["H", "O"]), Cutoffs(3.0)


def graph(num_atoms: int, seed: int, **labels) -> AtomicGraph:
    rng = np.random.default_rng(seed)
    frame = Frame(rng.choice([1, 8], num_atoms), rng.uniform(0, 4, (num_atoms, 3)), **labels)
    return build_graph(frame, MAPPER, CUTOFFS, index=seed)


def tensors(value: AtomicGraph) -> dict[str, torch.Tensor]:
    labels = {name: label for name, label in value.labels._asdict().items() if label is not None}
    own = {name: part for name, part in value._asdict().items() if part is not None}
    return {**own, **labels} | {"labels": torch.zeros(0)}


def test_frames_side_by_side_keep_their_edges_and_sorting():
    parts = [graph(4, 0), graph(1, 1), graph(6, 2)]
    batch = collate(parts)
    assert batch.num_graphs == 3
    assert batch.num_atoms == 11
    assert batch.num_edges == sum(part.num_edges for part in parts)
    assert (batch.center.diff() >= 0).all()
    assert (batch.neighbor[batch.transpose].diff() >= 0).all()
    assert (batch.batch[batch.center] == batch.batch[batch.neighbor]).all()
    assert torch.equal(batch.row_ptr.diff(), torch.bincount(batch.center, minlength=11))
    assert batch.labels.index.tolist() == [0, 1, 2]


def test_collating_is_associative():
    parts = [graph(n, n) for n in (3, 1, 5)]
    at_once = tensors(collate(parts))
    in_turn = tensors(collate([collate(parts[:2]), parts[2]]))
    assert all(torch.equal(at_once[name].nan_to_num(7.0), in_turn[name].nan_to_num(7.0)) for name in at_once)


def test_one_graph_collates_to_itself():
    one = graph(4, 0)
    assert torch.equal(collate([one]).row_ptr, one.row_ptr)


def test_no_graphs_cannot_be_collated():
    with pytest.raises(ValueError, match="empty list"):
        collate([])


def test_missing_labels_are_nan_of_the_usual_shape():
    labels = graph(4, 0).labels
    assert labels.energy.isnan().all()
    assert labels.forces.shape == (4, 3)
    assert labels.stress.shape == (1, 3, 3)
    assert labels.weight.item() == 1.0


def test_labels_are_taken_over():
    forces = np.arange(6.0).reshape(2, 3)
    labels = graph(2, 0, energy=-3.0, forces=forces, stress=np.eye(3), weight=2.0).labels
    assert labels.energy.item() == -3.0
    assert labels.forces.tolist() == forces.tolist()
    assert torch.equal(labels.stress[0], torch.eye(3, dtype=torch.float64))
    assert labels.weight.item() == 2.0


def test_a_graph_of_no_atoms_is_well_formed():
    empty = build_graph(Frame(np.zeros(0, dtype=np.int64), np.zeros((0, 3))), MAPPER, CUTOFFS)
    assert (empty.num_atoms, empty.num_edges, empty.num_graphs) == (0, 0, 1)
    assert empty.row_ptr.tolist() == [0]


def test_moving_to_a_device_moves_every_tensor():
    moved = graph(3, 0).to("meta")
    assert all(value.device.type == "meta" for name, value in tensors(moved).items() if name != "labels")


def test_graphs_survive_pickling():
    one = graph(3, 0)
    assert torch.equal(pickle.loads(pickle.dumps(one)).positions, one.positions)
