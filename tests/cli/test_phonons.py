from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import phonopy
import pytest
from ase.build import bulk, molecule
from ase.io import read

from nequip.cli.main import main
from nequip.model.potential import Potential
from nequip.model.registry import build_potential, get_architecture


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Random weights, in a file."""
    path = tmp_path / "model.nequip"
    small().save(path)
    return path


def small() -> Potential:
    config = get_architecture("nequip").config(
        type_names=("H", "O"),
        r_max=3.0,
        num_layers=1,
        l_max=1,
        num_features=4,
        avg_num_neighbors=4.0,
        per_type_energy_shifts={"H": 0.0, "O": 0.0},
        per_type_energy_scales={"H": 1.0, "O": 1.0},
    )
    return build_potential(config)


def test_writes_phonopys_files_plots_and_tables(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    crystal, folder = tmp_path / "crystal.xyz", tmp_path / "out"
    bulk("O", "fcc", a=3.4).write(crystal)
    words = ["phonons", str(model), str(crystal), "--no-relax", "--mesh", "2", "2", "2", "--points", "20"]
    assert main([*words, "--supercell", "2", "2", "2", "-o", str(folder)]) == 0
    names = {file.name for file in folder.iterdir()}
    assert names >= {"phonopy.yaml", "FORCE_CONSTANTS", "bands.png", "dos.png", "thermal.png", "bands.csv"}
    loaded = phonopy.load(folder / "phonopy.yaml", force_constants_filename=folder / "FORCE_CONSTANTS")
    assert loaded.force_constants.shape[-3:] == (8, 3, 3)
    rows = np.loadtxt(folder / "bands.csv", delimiter=",", skiprows=1)
    summary = json.loads((folder / "phonons.json").read_text())
    assert summary["lowest_THz"] == pytest.approx(rows[:, 4:].min())
    assert "GAMMA" in capsys.readouterr().out


def test_only_what_was_asked_for_is_made(model: Path, tmp_path: Path):
    crystal, folder = tmp_path / "crystal.xyz", tmp_path / "out"
    bulk("O", "sc", a=2.4).write(crystal)
    words = ["phonons", str(model), str(crystal), "--dos", "--no-relax", "--mesh", "2", "2", "2"]
    assert main([*words, "--supercell", "1", "1", "1", "-o", str(folder)]) == 0
    assert (folder / "dos.png").is_file()
    assert not (folder / "bands.png").exists()
    assert not (folder / "thermal.png").exists()


def test_molecule_for_phonons_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    molecule("H2O").write(tmp_path / "water.xyz")
    assert main(["phonons", str(model), str(tmp_path / "water.xyz"), "-o", str(tmp_path / "out")]) == 2
    assert "periodic in three directions" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_vibrations_of_a_molecule(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    folder = tmp_path / "out"
    molecule("H2O").write(tmp_path / "water.xyz")
    words = ["vibrations", str(model), str(tmp_path / "water.xyz"), "--no-relax", "-o", str(folder)]
    assert main(words) == 0
    assert "point group C2v" in capsys.readouterr().out
    summary = json.loads((folder / "vibrations.json").read_text())
    assert len(summary["frequencies_cm-1"]) == 3
    frames = read(folder / "modes" / "mode_2.xyz", index=":")
    assert len(frames) == 20


def test_crystal_for_vibrations_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    bulk("O", "sc", a=2.4).write(tmp_path / "crystal.xyz")
    assert main(["vibrations", str(model), str(tmp_path / "crystal.xyz")]) == 2
    assert "nequip-phonons" in capsys.readouterr().err
