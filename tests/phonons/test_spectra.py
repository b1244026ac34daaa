from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from field_potentials import field_potential as model

from nequip.cli.main import main
from nequip.phonons.spectra import KM_PER_MOL, broadened, spectra, spectral_grid
from nequip.phonons.vibrations import vibrations
from nequip.units import COULOMB_CONSTANT

DEBYE = 0.20819433  # e·Å


def test_a_debye_per_angstrom_is_the_intensity_of_textbooks():
    assert pytest.approx(42.2561, abs=2e-4) == KM_PER_MOL * DEBYE**2


def test_spectra_of_water_are_those_of_the_quantum_chemistry_program(data_dir: Path):
    reference = np.load(data_dir / "pyscf_H2O_irraman.npz")
    vibrating = vibrations(Atoms(reference["numbers"], reference["positions"]), reference["hessian"])
    tensors = reference["dalpha_dx_A2"].reshape(3, 3, 3, 3).transpose(0, 2, 3, 1) / COULOMB_CONSTANT
    found = spectra(vibrating, reference["born_charges"], tensors)
    assert np.allclose(found.frequencies, reference["freq_cm1"][6:], rtol=1e-6)
    assert np.allclose(found.infrared, reference["ir_km_mol"][6:], rtol=1e-5)
    assert np.allclose(found.raman, reference["raman_A4_amu"][6:], rtol=1e-6)


def test_broadened_lines_have_the_area_of_their_sticks_and_the_width_asked_for():
    grid = np.arange(0.0, 20000.0, 0.5)
    curve = broadened(np.array([-50.0, 10000.0]), np.array([7.0, 3.0]), grid, 10.0)
    assert curve.sum() * 0.5 == pytest.approx(3.0, rel=1e-3)
    assert grid[curve.argmax()] == 10000
    half = grid[curve >= curve.max() / 2]
    assert half[-1] - half[0] == pytest.approx(10.0)


def test_the_grid_covers_the_lines():
    grid = spectral_grid(np.array([-10.0, 1700.0]), 10.0)
    assert grid[0] == 0
    assert grid[-1] > 1900


@pytest.fixture
def water(tmp_path: Path) -> Path:
    molecule("H2O").write(tmp_path / "water.xyz")
    return tmp_path / "water.xyz"


def test_the_command_writes_sticks_curves_and_plots(
    water: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    path, folder = tmp_path / "model.nequip", tmp_path / "out"
    model("nequip").save(path)
    assert main(["vibrations", str(path), str(water), "--no-relax", "-o", str(folder), "--width", "20"]) == 0
    sticks = np.genfromtxt(folder / "vibrations.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    curves = np.genfromtxt(folder / "spectra.csv", delimiter=",", names=True)
    stable = sticks["frequency_cm1"] > 0
    step = curves["wavenumber_cm1"][1]
    assert step == pytest.approx(2.0)
    if stable.any():
        area = curves["infrared_km_mol_per_cm1"].sum() * step
        assert area == pytest.approx(sticks["infrared_km_mol"][stable].sum(), rel=0.2)
    for name in ("infrared.png", "raman.png"):
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"
    assert "IR (km/mol)" in capsys.readouterr().out


def test_the_command_says_nothing_of_spectra_without_a_field(
    water: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    path, folder = tmp_path / "model.nequip", tmp_path / "out"
    model("nequip", electric_field=False).save(path)
    assert main(["vibrations", str(path), str(water), "--no-relax", "-o", str(folder)]) == 0
    assert not (folder / "spectra.csv").exists()
    assert "km_mol" not in (folder / "vibrations.csv").read_text()
    assert "IR (km/mol)" not in capsys.readouterr().out
