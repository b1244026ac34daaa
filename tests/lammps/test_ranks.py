"""However the box is divided among processes, the physics is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lammps_runs import HEADER, OUTPUT, Run, dump_forces, read_structure, run_lammps, succeed, take_potential
from lammps_structures import crystal, half_empty, triclinic

STRUCTURES = {"cubic": crystal(3), "triclinic": triclinic(2), "half_empty": half_empty()}

# number of processes, where they are, what follows when the atoms are there
DIVISIONS = {
    "along x": (2, "processors 2 1 1", ""),
    "along z": (2, "processors 1 1 2", ""),
    "three": (3, "", ""),
    "four": (4, "processors 1 2 2", ""),
    "tiled": (2, "", "comm_style tiled\nbalance 1.0 rcb\n"),
}


def run_divided(folder: Path, potential: str, ranks: int = 1, division: str = "", after: str = "") -> Run:
    """A few steps of each structure."""
    script = "\nclear\n".join(
        HEADER
        + division
        + "\n"
        + read_structure(atoms, folder, name)
        + potential
        + OUTPUT
        + after
        + "velocity all create 600.0 87287 loop all\nfix integrate all nve\ntimestep 0.0005\nthermo 3\n"
        + dump_forces(f"{name}.dump")
        + "run 3\n"
        for name, atoms in STRUCTURES.items()
    )
    return succeed(run_lammps(script, folder, ranks))


@pytest.fixture(scope="module")
def undivided(artefacts, plugin, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("one")
    return run_divided(folder, take_potential(plugin, "nequip", artefacts("nequip").path))


@pytest.mark.parametrize("name", DIVISIONS)
def test_number_and_places_of_processes_do_not_matter(name, undivided, artefacts, plugin, tmp_path):
    potential = take_potential(plugin, "nequip", artefacts("nequip").path)
    divided = run_divided(tmp_path, potential, *DIVISIONS[name])
    for ours, theirs in zip(divided.tables(), undivided.tables(), strict=True):
        for column, expected in theirs.items():
            scale = np.abs(theirs["Pxx"]).max() if column.startswith("P") else np.abs(expected).max()
            np.testing.assert_allclose(ours[column], expected, rtol=0, atol=1e-10 * scale, err_msg=column)
    for structure in STRUCTURES:
        forces, expected = divided.forces(f"{structure}.dump"), undivided.forces(f"{structure}.dump")
        np.testing.assert_allclose(forces, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_a_process_may_own_no_atoms(artefacts, plugin, tmp_path):
    """Which the structure that is compared above really brings about."""
    potential = take_potential(plugin, "nequip", artefacts("nequip").path)
    divided = run_divided(tmp_path, potential, *DIVISIONS["along z"])
    assert set(divided.dump("half_empty.dump")["proc"]) == {0}


@pytest.mark.parametrize("architecture", ["allegro", "mace"])
def test_other_architectures_divided_among_three(architecture, artefacts, plugin, tmp_path):
    potential = take_potential(plugin, architecture, artefacts(architecture).path)
    (tmp_path / "one").mkdir()
    one = run_divided(tmp_path / "one", potential)
    three = run_divided(tmp_path, potential, 3)
    for structure in STRUCTURES:
        expected = one.forces(f"{structure}.dump")
        np.testing.assert_allclose(
            three.forces(f"{structure}.dump"), expected, rtol=0, atol=1e-10 * np.abs(expected).max()
        )
