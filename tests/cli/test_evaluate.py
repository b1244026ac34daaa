from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write

import nequip
from nequip.calculators import NequIPCalculator
from nequip.cli.main import main
from nequip.phonons.vibrations import vibrations


@pytest.fixture
def frames(tmp_path, monkeypatch) -> Path:
    """Two groups, labels under names of our own; a lone atom among them."""
    monkeypatch.chdir(tmp_path)
    structures = [molecule(name) for name in ("CH4", "H2O", "CH3OH", "CO2", "H2O")] + [molecule("O")]
    for number, atoms in enumerate(structures):
        atoms.info["my_energy"] = -10.0 * len(atoms) - 0.01 * number
        atoms.arrays["my_forces"] = np.full((len(atoms), 3), 0.1)
        atoms.info["config_type"] = "IsolatedAtom" if len(atoms) == 1 else ["small", "smaller"][number % 2]
    write(tmp_path / "frames.xyz", structures)
    return Path("frames.xyz")


def evaluate(*words: object) -> int:
    return main(["evaluate", *map(str, words)])


def labelled(model: Path, frames: Path, *words: object) -> int:
    return evaluate(model, frames, "--energy-key", "my_energy", "--forces-key", "my_forces", *words)


def complaint(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_table_has_all_types_and_groups(model, frames, capsys):
    assert labelled(model, frames) == 0
    printed = capsys.readouterr().out
    assert "5 frames, 20 atoms of frames.xyz" in printed
    rows = [line.split("  ")[0] for line in printed.splitlines()]
    start = rows.index("all")
    assert rows[start : start + 7] == [
        "all",
        "atoms of H",
        "atoms of C",
        "atoms of O",
        "group small",
        "group smaller",
        "mean over types",
    ]


def test_files_are_written_where_asked_for(model, frames, tmp_path):
    assert labelled(model, frames, "--output", "deep/errors") == 0
    folder = tmp_path / "deep" / "errors"
    assert sorted(path.name for path in folder.iterdir()) == [
        "errors.json",
        "figures",
        "predictions.xyz",
        "report.html",
    ]
    assert len(read(folder / "predictions.xyz", ":")) == 5


@pytest.mark.parametrize("batch_size", [1, 3])
def test_errors_are_those_of_the_calculator(model, frames, capsys, batch_size):
    labelled(model, frames, "--json", "--batch-size", batch_size)
    errors = json.loads(capsys.readouterr().out)["errors"]
    structures = read(frames, ":5")
    results = NequIPCalculator(model).evaluate(structures)
    difference = np.concatenate([result["forces"] - 0.1 for result in results])
    assert errors["forces_mae"] == pytest.approx(np.abs(difference).mean(), rel=1e-5)
    per_atom = [
        (result["energy"] - atoms.info["my_energy"]) / len(atoms)
        for result, atoms in zip(results, structures, strict=True)
    ]
    assert errors["energy_per_atom_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(per_atom))), rel=1e-5)


def test_json_printed_is_the_json_written(model, frames, capsys):
    labelled(model, frames, "--json")
    assert json.loads(capsys.readouterr().out) == json.loads(Path("evaluation/errors.json").read_text())


def test_frames_without_labels_are_predicted(model, frames, capsys):
    assert evaluate(model, frames) == 0
    assert "There are no labels to compare with." in capsys.readouterr().out
    assert "pred_forces" in read("evaluation/predictions.xyz", 0).arrays


def test_energy_only_potential_is_evaluated_on_energies(energy_model, frames, capsys):
    assert labelled(energy_model, frames) == 0
    printed = capsys.readouterr().out
    assert "MAE energy" in printed
    assert "forces" not in printed.split("In evaluation")[0]


def test_dtype_may_be_another(model, frames, capsys):
    errors = []
    for dtype in ("float32", "float64"):
        labelled(model, frames, "--json", "--dtype", dtype)
        errors.append(json.loads(capsys.readouterr().out)["errors"]["forces_mae"])
    assert errors[0] != errors[1]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)


def test_named_set_is_found(model, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert evaluate(model, "set:sample_methanol", "--json") == 0
    assert json.loads(capsys.readouterr().out)["num_frames"] == 300


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere.nequip", "frames.xyz"], "there is no file nowhere.nequip"),
        (["frames.xyz", "frames.xyz"], "frames.xyz: this is not a saved potential"),
        (["MODEL", "frame.xyz"], "there is no file frame.xyz (did you mean 'frames.xyz'?)"),
        (["MODEL", "set:rmd17_ethanl"], "(did you mean 'rmd17_ethanol'?)"),
        (["MODEL", "frames.xyz", "--energy-key", "my_enrgy"], "(did you mean 'my_energy'?)"),
        (["MODEL", "frames.xyz", "--device", "gpu"], "there is no device 'gpu'"),
        (["MODEL", "frames.xyz", "-o", "frames.xyz"], "the folder frames.xyz cannot be made: File exists"),
    ],
)
def test_mistake_gets_a_sentence(model, frames, capsys, words, expected):
    assert evaluate(*(model if word == "MODEL" else word for word in words)) == 2
    assert expected in complaint(capsys)
    assert not Path("evaluation").exists()


def test_unknown_element_is_named_with_its_frame(model, frames, capsys):
    write("frames.xyz", [molecule("H2O"), molecule("NH3")])
    assert evaluate(model, frames) == 2
    assert "frame 1 holds N, but the model knows only H, C, O" in complaint(capsys)


@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_batch_size_must_be_a_number(model, frames, capsys, size):
    with pytest.raises(SystemExit, match="2"):
        evaluate(model, frames, "--batch-size", size)
    assert f"'{size}' is not a whole number above 0" in capsys.readouterr().err


def test_hessians_are_compared_where_frames_have_them(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    calculator = NequIPCalculator(nequip.load(model, dtype="float64"))
    frames = [molecule("H2O"), molecule("CH4"), molecule("CO2")]
    hessians = [calculator.get_hessian(atoms) for atoms in frames[:2]]
    frequencies = [vibrations(*pair).frequencies for pair in zip(frames, hessians, strict=False)]
    for atoms, hessian in zip(frames, hessians, strict=False):
        atoms.info["REF_hessian"] = 1.1**2 * hessian
    write("hessians.xyz", frames)
    assert evaluate(model, "hessians.xyz", "--json", "--dtype", "float64") == 0
    errors = json.loads(capsys.readouterr().out)["errors"]
    elements = np.concatenate([hessian.ravel() for hessian in hessians])
    assert errors["hessian_mae"] == pytest.approx(0.21 * np.abs(elements).mean(), rel=1e-5)
    assert errors["hessian_rmse"] == pytest.approx(0.21 * np.sqrt((elements**2).mean()), rel=1e-5)
    found = np.abs(np.concatenate(frequencies)).mean()
    assert errors["frequencies_mae"] == pytest.approx(0.1 * found, rel=1e-3)


def test_the_table_has_columns_of_second_order(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    water = molecule("H2O")
    water.info["REF_hessian"] = np.eye(9)
    write("water.xyz", water)
    assert evaluate(model, "water.xyz") == 0
    printed = capsys.readouterr().out
    assert "RMSE Hessian" in printed
    assert "MAE frequencies" in printed
