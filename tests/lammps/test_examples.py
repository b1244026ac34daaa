"""The examples beside the plugin run, with a small potential and fewer steps."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from lammps_runs import Run, run_file, succeed

EXAMPLES = Path(__file__).parents[2] / "lammps_plugin" / "examples"


@pytest.fixture
def run_example(artefacts, plugin, tmp_path):
    """Run a copy of an example."""

    def run(name: str, ranks: int = 1, **variables: object) -> Run:
        folder = shutil.copytree(EXAMPLES / name, tmp_path / name)
        (script,) = folder.glob("in.*")
        return succeed(
            run_file(script, folder, ranks, plugin=plugin, model=artefacts("nequip").path, **variables)
        )

    return run


def test_water(run_example):
    run = run_example("water_nvt", steps=20)
    assert run.tables()[-1]["Step"][-1] == 20
    assert (run.folder / "water.restart").exists()


def test_methanol_conserves_energy(run_example):
    table = run_example("methanol_nve", steps=200).tables()[-1]
    assert table["Step"][-1] == 200
    assert np.abs(table["v_change"]).max() < 100  # µeV per atom, at 600 K and 0.5 fs


def test_silicon_melt_on_two_processes(run_example):
    run = run_example("silicon_melt", ranks=2, steps=20)
    assert run.tables()[-1]["Step"][-1] == 20
    dump = run.dump("silicon.dump")
    assert len(dump["id"]) == 216


def test_phonon_displacement(run_example):
    run = run_example("phonon_displacement")
    plus, minus = run.forces("plus.dump"), run.forces("minus.dump")
    line = next(line for line in run.output.splitlines() if line.startswith("force constant"))
    constant, total = float(line.split()[2]), float(line.split()[7])
    assert constant == pytest.approx(-(plus - minus)[0, 0] / 0.02)
    assert abs(total) < 1e-6 * np.abs(plus - minus).max() / 0.02 + 1e-9
