from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write

from nequip.cli.main import main


@pytest.fixture
def start(tmp_path, monkeypatch) -> Path:
    """Water, then methanol."""
    monkeypatch.chdir(tmp_path)
    write("start.xyz", [molecule("H2O"), molecule("CH3OH")])
    return Path("start.xyz")


def md(*words: object) -> int:
    return main(["md", *map(str, words)])


def test_run_leaves_trajectory_table_and_plots(model, start):
    assert md(model, start, "--steps", 40, "--output", "out/run") == 0
    assert sorted(path.name for path in Path("out/run").iterdir()) == [
        "energies.png",
        "md.json",
        "nve.csv",
        "nve.xyz",
        "temperature.png",
        "total_energy.png",
    ]
    assert [len(atoms) for atoms in read("out/run/nve.xyz", ":")] == [3] * 5
    rows = list(csv.DictReader(Path("out/run/nve.csv").read_text().splitlines()))
    assert [float(row["time_fs"]) for row in rows] == [0, 5, 10, 15, 20]


def test_total_energy_stays(model, start):
    md(model, start, "--steps", 100, "--dtype", "float64", "--timestep", 0.25)
    found = json.loads(Path("md/md.json").read_text())
    assert found["fluctuation_eV_per_atom"] < 1e-4
    assert found["timestep"] == 0.25


def test_lines_tell_how_far_it_is(model, start, capsys):
    md(model, start, "--steps", 20, "--every", 1)
    printed = capsys.readouterr().out
    assert "H2O at 300 K: 20 steps of 0.5 fs" in printed
    steps = [int(line.split()[0]) for line in printed.splitlines()[3:] if line[:10].strip().isdigit()]
    assert steps == list(range(0, 21, 2))
    assert "total energy: drift" in printed


def test_index_says_which_structure(model, start, capsys):
    md(model, start, "--steps", 0, "--index", -1)
    assert "CH4O at 300 K" in capsys.readouterr().out


def test_seed_fixes_the_trajectory(model, start):
    ends = []
    for seed in (1, 1, 2):
        md(model, start, "--steps", 10, "--seed", seed)
        ends.append(read("md/nve.xyz", -1).positions)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["start.xyz", "--index", "2"], "start.xyz has 2 frames, so there is no frame 2"),
        (["start.xyz", "--timestep", "0"], "timestep is 0.0: give a positive number"),
        (["strt.xyz"], "(did you mean 'start.xyz'?)"),
        (["start.xyz", "--device", "gpu"], "there is no device 'gpu'"),
    ],
)
def test_mistake_gets_a_sentence(model, start, capsys, words, expected):
    assert md(model, *words) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert "Traceback" not in captured.err
    assert not Path("md").exists()


def test_unknown_element_is_named(model, start, capsys):
    write("start.xyz", molecule("NH3"))
    assert md(model, start) == 2
    assert "holds N, but the model knows only H, C, O" in capsys.readouterr().err
    assert not Path("md").exists()


def test_energy_only_potential_is_refused(energy_model, start, capsys):
    assert md(energy_model, start) == 2
    assert "predicts energies only" in capsys.readouterr().err
