"""Compiled potentials: the numbers of the original, from one file, or a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase.build import bulk, molecule

from nequip.calculators import NequIPCalculator
from nequip.data.copies import with_ghosts
from nequip.data.graph import collate
from nequip.errors import CheckpointError, ModelError
from nequip.export.archive import extract, is_artefact, read_card
from nequip.export.artefact import Artefact, CompiledPotential
from nequip.export.structures import comparison_graphs
from nequip.export.verify import verify
from nequip.nn.exchange import owners

pytestmark = pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec:FutureWarning")


@pytest.fixture(scope="module")
def ase(artefacts):
    return artefacts("nequip", "float64", "ase")


@pytest.fixture(scope="module")
def batch(artefacts):
    return artefacts("nequip", "float32", "batch")


def graphs(small):
    return comparison_graphs(small.potential.card.type_names, small.potential.cutoffs)


def assert_same(prediction, exact, **tolerances):
    for name in prediction._fields:
        value, wanted = getattr(prediction, name), getattr(exact, name)
        torch.testing.assert_close(value, wanted, equal_nan=True, msg=name, **tolerances)


@pytest.mark.parametrize(
    "name",
    [
        "one atom",
        "two atoms out of reach",
        "a cluster of 27 atoms",
        "a crystal of 8 atoms",
        "a crystal of 125 atoms",
    ],
)
def test_a_structure_of_any_size_has_what_the_potential_predicts(ase, name):
    graph = graphs(ase)[name]
    assert_same(CompiledPotential(ase.path)(graph), ase.potential(graph), rtol=1e-10, atol=1e-10)


def test_a_batch_has_what_the_potential_predicts(batch):
    graph = collate([*graphs(batch).values()])
    assert_same(CompiledPotential(batch.path)(graph), batch.potential(graph), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["nequip", "allegro", "mace"])
def test_a_part_with_ghosts_has_the_energies_and_gradients_of_the_whole(artefacts, architecture):
    small = artefacts(architecture, "float64", "lammps")
    graph = graphs(small)["a crystal of 8 atoms"]
    unfolded, owner = with_ghosts(graph)
    vector = unfolded.positions[unfolded.neighbor] - unfolded.positions[unfolded.center]
    inputs = [vector, unfolded.types, unfolded.center, unfolded.neighbor, unfolded.row_ptr]
    with owners(owner):
        energies, gradient = Artefact(small.path).run(inputs)
    exact = small.potential(graph)
    torch.testing.assert_close(energies, exact.atomic_energies, rtol=1e-10, atol=1e-10)
    forces = torch.zeros(8, 3, dtype=torch.float64).index_add(0, graph.center, gradient)
    forces = forces.index_add(0, graph.neighbor, -gradient)
    torch.testing.assert_close(forces, exact.forces, rtol=1e-10, atol=1e-10)


def test_exchanges_are_counted(artefacts):
    assert read_card(artefacts("nequip", "float64", "lammps").path).num_exchanges == 2
    assert read_card(artefacts("mace", "float64", "lammps").path).num_exchanges == 1
    card = read_card(artefacts("allegro", "float64", "lammps").path)
    assert (card.num_exchanges, card.exchange_width) == (0, 0)


def test_ase_gets_the_same_from_the_file_and_from_the_potential(ase):
    for atoms in (molecule("H2O"), bulk("Si", cubic=True)):
        atoms.rattle(0.05, seed=1)
        compiled, eager = atoms.copy(), atoms.copy()
        compiled.calc = NequIPCalculator.from_compiled_model(compile_path=ase.path, device="cpu")
        eager.calc = NequIPCalculator(ase.potential)
        assert compiled.get_potential_energy() == pytest.approx(eager.get_potential_energy(), abs=1e-10)
        assert compiled.get_forces() == pytest.approx(eager.get_forces(), abs=1e-10)
        if atoms.cell.rank == 3:
            assert compiled.get_stress() == pytest.approx(eager.get_stress(), abs=1e-10)


@pytest.mark.parametrize("target", ["ase", "batch"])
def test_many_structures_are_evaluated_whatever_the_target(request, target):
    small = request.getfixturevalue(target)
    structures = [molecule("H2O"), molecule("H2"), bulk("Si")]
    compiled = NequIPCalculator(small.path).evaluate(structures, batch_size=2)
    eager = NequIPCalculator(small.potential, radial_tables=False).evaluate(structures)
    for one, other in zip(compiled, eager, strict=True):
        assert one["energy"] == pytest.approx(other["energy"], rel=1e-5)
        assert one.keys() == other.keys()


def test_artefacts_in_one_process_do_not_disturb_each_other(ase, batch, artefacts):
    parts = artefacts("nequip", "float64", "lammps")
    graph = graphs(ase)["a crystal of 125 atoms"]
    alone = CompiledPotential(ase.path)
    before = alone(graph)
    others = CompiledPotential(batch.path), Artefact(parts.path)
    others[0](graph)
    assert_same(alone(graph), before, rtol=1e-13, atol=1e-13)


WITHOUT_COMPILER = """
import sys, torch
from nequip.export.artefact import CompiledPotential
potential, (graph, energy) = CompiledPotential(sys.argv[1]), torch.load(sys.argv[2], weights_only=False)
torch.testing.assert_close(potential(graph).energy, energy)
"""


def test_the_file_needs_neither_a_compiler_nor_kernels_built_before(ase, tmp_path):
    graph = graphs(ase)["a crystal of 8 atoms"]
    torch.save((graph, ase.potential(graph).energy), tmp_path / "graph.pt")
    environment = {**os.environ, "PATH": str(tmp_path), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", WITHOUT_COMPILER, str(ase.path), str(tmp_path / "graph.pt")]
    subprocess.run(command, env=environment, check=True)
    assert not (tmp_path / ".cache").exists()


def test_an_original_after_a_file_in_one_process_takes_its_operators(ase, tmp_path):
    graph = graphs(ase)["a crystal of 8 atoms"]
    torch.save((graph, ase.potential(graph).energy), tmp_path / "graph.pt")
    ase.potential.save(tmp_path / "original.nequip")
    program = WITHOUT_COMPILER + "import nequip\nnequip.load(sys.argv[3])(graph)\n"
    files = [ase.path, tmp_path / "graph.pt", tmp_path / "original.nequip"]
    subprocess.run([sys.executable, "-c", program, *map(str, files)], check=True)


def test_a_file_of_other_weights_is_found_out(ase):
    other = ase.potential.to_dtype("float64").eval()
    with torch.no_grad():
        other.type_embedding.mul_(1.001)
    with pytest.raises(ModelError, match=r"the compiled potential is wrong: .* no file was written"):
        verify(ase.path, read_card(ase.path), other)


def rewritten(path: Path, folder: Path, change: Callable[[dict], None]) -> Path:
    """The file with another card."""
    copy = folder / "changed.nequip.pt2"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("nequip/card.json"):
                card = json.loads(content)
                change(card)
                content = json.dumps(card).encode()
            target.writestr(name, content)
    return copy


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("torch_version", "2.10.1", r"compiled with torch 2\.10\.1 and runs with releases of 2\.10 alone"),
        ("device", "cuda", "was compiled for cuda, not cpu: compile it again with --device cpu"),
        ("target", "lammps", "was compiled for LAMMPS; compile the potential again with --target ase"),
        ("abi", "0123", "whose kernels do not fit those that this process has loaded already"),
        ("format", 99, "has format 99, and this e3forge .* reads up to 1: install a newer"),
    ],
)
def test_what_does_not_fit_here_is_said_in_a_sentence(ase, tmp_path, key, value, sentence):
    CompiledPotential(ase.path)  # which loads operators
    copy = rewritten(
        ase.path, tmp_path, lambda card: card.update({key: value} | ({"new": 1} if key == "format" else {}))
    )
    with pytest.raises(CheckpointError, match=sentence):
        CompiledPotential(copy, "cpu")


def test_an_instruction_set_that_the_machine_lacks_is_named(ase, monkeypatch):
    monkeypatch.setattr("nequip.export.artefact.instruction_set", lambda: "generic")
    needed = read_card(ase.path).instruction_set
    if needed == "generic":
        pytest.skip("code for this machine needs no instruction set that another could lack")
    with pytest.raises(CheckpointError, match=f"the instruction set {needed}, which this machine lacks"):
        CompiledPotential(ase.path)


def test_a_cut_or_damaged_file_is_told(ase, tmp_path):
    content = ase.path.read_bytes()
    cut, damaged = tmp_path / "cut.pt2", tmp_path / "damaged.pt2"
    cut.write_bytes(content[: len(content) // 2])
    damaged.write_bytes(content[:5000] + b"damage" + content[5006:])
    for path, sentence in ((cut, "cut short"), (damaged, "is damaged")):
        with pytest.raises(CheckpointError, match=sentence):
            CompiledPotential(path)


def test_a_file_says_what_it_is_by_its_content(ase, tmp_path):
    ase.potential.save(tmp_path / "potential.pt2")
    assert is_artefact(ase.path)
    assert not is_artefact(tmp_path / "potential.pt2")


def test_kernels_are_there_as_source_too(ase, tmp_path):
    card = read_card(ase.path)
    assert card.kernels
    assert card.kernels[0].spec in extract(ase.path, card.kernels[0].source, tmp_path).read_text()


@pytest.mark.parametrize("option", [{"dtype": "float32"}, {"backend": "reference"}, {"radial_tables": True}])
def test_choices_that_the_file_has_made_are_refused(ase, option):
    with pytest.raises(ModelError, match=f"is compiled, and {next(iter(option))} is part of it: leave"):
        NequIPCalculator(ase.path, **option)


def test_several_structures_in_a_file_for_one_are_refused(ase):
    with pytest.raises(ModelError, match=r"takes one structure at a time, not 5: .* --target batch"):
        CompiledPotential(ase.path)(collate([*graphs(ase).values()]))
