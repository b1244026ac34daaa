"""The compiled training step: the numbers of eager at any size, or eager itself and a word."""

from __future__ import annotations

import csv
import logging
from copy import copy

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from toy_potential import ToyPotential, toy_potential

from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.model.nequip import NequIPConfig, build
from nequip.model.potential import Potential
from nequip.train import compiled as module
from nequip.train.compiled import CompiledPotential
from nequip.train.run import run_training

CONFIG = NequIPConfig(
    type_names=("H", "O"),
    r_max=3.0,
    num_layers=2,
    l_max=1,
    num_features=2,
    radial_mlp_depth=1,
    radial_mlp_width=3,
    avg_num_neighbors=4.0,
    per_type_energy_scales=1.0,
    per_type_energy_shifts=0.0,
    dtype="float64",
)


def structure(potential: Potential, name: str, seed: int) -> AtomicGraph:
    """Four molecules of water, with a cell or without, or an atom that has no neighbors."""
    atoms = bulk("O", "sc", a=20) if name == "atom" else molecule("H2O", cell=[3.5] * 3).repeat((2, 2, 1))
    atoms.pbc = name != "molecules"
    atoms.rattle(0.05, seed=seed)
    frame = Frame(atoms.numbers, atoms.positions, np.array(atoms.cell), tuple(atoms.pbc))
    return build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)


def batch(potential: Potential, *names: str) -> AtomicGraph:
    return collate([structure(potential, name, seed) for seed, name in enumerate(names)])


def gradients(prediction, potential: Potential) -> list[torch.Tensor]:
    total = prediction.energy.square().sum() + prediction.forces.square().sum()
    total = total + prediction.stress.nan_to_num().square().sum()
    return list(torch.autograd.grad(total, list(potential.parameters()), materialize_grads=True))


def warned(caplog) -> str:
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    return record.message


@pytest.fixture(scope="module")
def compiled() -> CompiledPotential:
    made = CompiledPotential(build(CONFIG))
    made.prepare(batch(made.potential, "crystal", "molecules", "crystal"))
    assert made.is_compiled
    return made


@pytest.mark.parametrize(
    "names",
    [
        ("crystal", "molecules", "molecules", "crystal", "atom"),
        ("molecules", "crystal"),
        ("crystal",),
        ("molecules",),
        ("atom",),
        ("atom", "atom", "atom"),
    ],
    ids=" ".join,
)
def test_predictions_and_gradients_are_those_of_eager_at_any_size(compiled, names):
    graph, potential = batch(compiled.potential, *names), compiled.potential
    ours, eager = compiled(graph), potential(graph)
    for one, other in zip(ours, eager, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True)
    for one, other in zip(gradients(ours, potential), gradients(eager, potential), strict=True):
        torch.testing.assert_close(one, other)


def test_one_compilation_serves_all_sizes(compiled):
    compiled(batch(compiled.potential, "crystal", "crystal"))
    compiled(batch(compiled.potential, "molecules"))
    assert compiled.num_compilations == 1


def test_weights_that_a_step_changed_are_seen(compiled):
    graph, potential = batch(compiled.potential, "crystal", "molecules"), compiled.potential
    before = compiled(graph).energy
    with torch.no_grad():
        for weight in potential.parameters():
            weight.mul_(1.1)
    after = compiled(graph).energy
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, potential(graph).energy)


def test_too_many_compilations_end_in_eager_with_a_word(compiled, monkeypatch, caplog):
    other = copy(compiled)
    monkeypatch.setattr(module, "MOST_COMPILATIONS", other.num_compilations)
    graph = batch(other.potential, "crystal", "molecules")
    graph = graph._replace(shift=graph.shift.float().double().requires_grad_())  # another graph of gradients
    torch.testing.assert_close(other(graph).forces, other.potential(graph).forces)
    assert "times already): training goes on in eager mode" in warned(caplog)


class Branching(ToyPotential):
    """What it computes depends on what it is given."""

    def atomic_energies(self, graph):
        energies = super().atomic_energies(graph)
        return energies if energies.sum() > 0 else 2 * energies


def test_what_cannot_be_compiled_runs_in_eager_mode_and_says_so_once(caplog):
    potential = Branching(toy_potential(("H", "O"), r_max=3.0).card)
    compiled, graph = CompiledPotential(potential), batch(potential, "crystal", "molecules")
    for _ in range(3):
        compiled.prepare(graph)
    assert warned(caplog).startswith("the training step could not be compiled (Could not")
    assert warned(caplog).endswith("training goes on in eager mode, which computes the same.")
    assert torch.equal(compiled(graph).forces, potential(graph).forces)


def test_compiled_code_that_computes_something_else_is_not_used(compiled, caplog):
    wrong = copy(compiled)
    wrong.potential, wrong.num_unchecked = build(CONFIG.model_copy(update={"seed": 1})), 1
    wrong.prepare(batch(wrong.potential, "crystal", "molecules"))
    assert "from eager): training goes on in eager mode" in warned(caplog)
    assert not wrong.is_compiled


def test_a_run_is_compiled_where_it_is_asked_for_and_comes_to_the_same(make_config, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    losses = []
    for compile in (False, True):
        outcome = run_training(
            make_config(train={"compile": compile}, output_dir=str(tmp_path / f"run-{compile}"))
        )
        with outcome.history.open(newline="") as file:
            losses.append([float(row["val/loss"]) for row in csv.DictReader(file)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert caplog.text.count("training step compiled in") == 1
    assert "eager mode" not in caplog.text
