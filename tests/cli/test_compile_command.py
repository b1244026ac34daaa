from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from ase.build import molecule

from nequip import load
from nequip.calculators import NequIPCalculator
from nequip.cli.main import compile as compile_command
from nequip.cli.main import main
from nequip.export.archive import read_card


def nequip_compile(*words: object) -> int:
    return compile_command([str(word) for word in words])


@pytest.fixture(scope="module")
def compiled(model, tmp_path_factory) -> tuple[Path, Path]:
    """Two potentials of one shape, original and compiled, with other weights."""
    folder = tmp_path_factory.mktemp("compiled")
    other = load(model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.1)
    other.save(folder / "other.nequip")
    for source, name in ((model, "one"), (folder / "other.nequip", "other")):
        options = ["--mode", "aotinductor", "--device", "cpu", "--target", "ase"]
        assert nequip_compile(source, folder / f"{name}.nequip.pt2", *options) == 0
    return folder / "one.nequip.pt2", folder / "other.nequip.pt2"


def energy(potential: Path) -> float:
    atoms = molecule("CH3OH")
    atoms.calc = NequIPCalculator(potential)
    return atoms.get_potential_energy()


def test_files_of_one_shape_and_other_weights_are_told_apart(model, compiled):
    one, other = compiled
    assert energy(one) == pytest.approx(energy(model), rel=1e-6)
    assert energy(other) == pytest.approx(energy(other.with_name("other.nequip")), rel=1e-6)
    assert abs(energy(one) - energy(other)) > 1e-3


def test_radial_tables_are_the_default_in_float32_and_their_error_is_told(compiled):
    assert 0 < read_card(compiled[0]).radial_table_error < 1e-8


def test_info_prints_the_card(compiled, capsys):
    assert main(["info", str(compiled[0])]) == 0
    card = yaml.safe_load(capsys.readouterr().out)
    assert (card["target"], card["architecture"], card["type_names"]) == ("ase", "nequip", ["H", "C", "O"])
    assert card["model"]["units"] == {"length": "angstrom", "energy": "eV"}


def test_dynamics_run_with_a_compiled_file(compiled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    molecule("H2O").write("start.xyz")
    assert main(["md", str(compiled[0]), "start.xyz", "--steps", "2"]) == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["out.nequip.pt2", "--mode", "torchscript"], "--mode torchscript is gone"),
        (["out.nequip"], "out.nequip is no name for a compiled potential: let it end in .nequip.pt2."),
        (["out.nequip", "--radial-table"], "out.nequip is no name for a compiled potential"),
        (["nowhere/out.nequip.pt2"], "cannot write nowhere/out.nequip.pt2: there is no folder"),
        (
            ["out.nequip.pt2", "--backend", "reference"],
            "is one that needs Python to run: compile with backend cpu",
        ),
        (["out.nequip.pt2", "--head", "first"], "has no head 'first': it has default."),
    ],
)
def test_mistakes_are_told_in_a_sentence(model, tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    assert nequip_compile(model, *words) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_lammps_needs_forces(energy_model, tmp_path, capsys):
    assert nequip_compile(energy_model, tmp_path / "out.nequip.pt2", "--target", "lammps") == 2
    assert "predicts energies only, and LAMMPS needs forces" in capsys.readouterr().err


@pytest.mark.parametrize("tolerance", ["2", "0", "exact"])
def test_a_tolerance_is_an_error_between_0_and_1(model, tmp_path, capsys, tolerance):
    with pytest.raises(SystemExit):
        nequip_compile(model, tmp_path / "out.nequip.pt2", "--radial-table", tolerance)
    assert "neither an error between 0 and 1 nor off" in capsys.readouterr().err
