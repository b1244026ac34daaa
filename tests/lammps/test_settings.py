"""What a user of LAMMPS sets around a potential: skins, threads, other potentials beside it, restarts."""

from __future__ import annotations

import numpy as np
import pytest
from lammps_runs import HEADER, OUTPUT, dump_forces, read_structure, run_lammps, succeed, take_potential
from lammps_structures import ELEMENTS, crystal


@pytest.fixture
def start(artefacts, plugin, tmp_path) -> str:
    """Commands up to the first run."""
    potential = take_potential(plugin, "nequip", artefacts("nequip").path)
    return HEADER + read_structure(crystal(2), tmp_path) + potential + OUTPUT + dump_forces()


def energy_and_forces(script: str, folder, **settings) -> tuple[float, np.ndarray]:
    run = succeed(run_lammps(script + "run 0\n", folder, **settings))
    return run.tables()[-1]["PotEng"][-1], run.forces("forces.dump")


@pytest.mark.parametrize(
    ("commands", "settings"),
    [
        ("neighbor 0.0 bin\n", {}),
        ("neighbor 3.0 bin\n", {}),
        ("comm_modify cutoff 9.0\n", {"ranks": 2}),
        ("pair_modify shift no\n", {"threads": 2}),
    ],
    ids=["no skin", "wide skin", "far ghosts", "two threads"],
)
def test_what_must_not_matter(commands, settings, start, tmp_path):
    energy, forces = energy_and_forces(start + commands, tmp_path, **settings)
    expected_energy, expected_forces = energy_and_forces(start, tmp_path)
    assert energy == pytest.approx(expected_energy, rel=1e-12)
    np.testing.assert_allclose(forces, expected_forces, rtol=0, atol=1e-10)


def test_minimization_ends_where_there_are_no_forces(start, tmp_path):
    run = succeed(run_lammps(start + "thermo 1000\nminimize 0 1e-4 500 2000\nrun 0\n", tmp_path))
    energy = run.tables()[0]["PotEng"]
    assert energy[-1] < energy[0]
    assert np.linalg.norm(run.forces("forces.dump")) < 1e-4


def test_restart_goes_on_as_if_it_had_not_stopped(start, artefacts, plugin, tmp_path):
    dynamics = "fix integrate all nve\ntimestep 0.0005\nthermo 10\n"
    through = succeed(
        run_lammps(
            start + "velocity all create 300 1\n" + dynamics + "run 10\nwrite_restart half.restart\nrun 10\n",
            tmp_path,
        )
    )
    potential = take_potential(plugin, "nequip", artefacts("nequip").path)
    second = HEADER + "read_restart half.restart\n" + potential + OUTPUT + dynamics + "run 10\n"
    resumed = succeed(run_lammps(second, tmp_path, ranks=2))
    for column in ("PotEng", "TotEng", "Pxx"):
        end = through.tables()[-1][column][-1]
        assert resumed.tables()[-1][column][-1] == pytest.approx(end, rel=1e-9)


def test_potentials_in_one_process_are_added(artefacts, plugin, tmp_path):
    """The same operators serve both, and pair hybrid makes room for the wider messages."""
    paths = {style: artefacts(style).path for style in ("nequip", "mace")}
    structure = HEADER + read_structure(crystal(2), tmp_path)
    alone = {
        style: energy_and_forces(
            structure + take_potential(plugin, style, path) + OUTPUT + dump_forces(), tmp_path
        )
        for style, path in paths.items()
    }
    elements = " ".join(ELEMENTS)
    both = (
        f"plugin load {plugin}\npair_style hybrid/overlay nequip mace nequip\npair_modify neigh/trim no\n"
        + "".join(
            f"pair_coeff * * {style} {paths[style.split()[0]]} {elements}\n"
            for style in ("nequip 1", "mace", "nequip 2")
        )
    )
    energy, forces = energy_and_forces(structure + both + OUTPUT + dump_forces(), tmp_path, ranks=2)
    assert energy == pytest.approx(2 * alone["nequip"][0] + alone["mace"][0], rel=1e-12)
    expected = 2 * alone["nequip"][1] + alone["mace"][1]
    np.testing.assert_allclose(forces, expected, rtol=0, atol=1e-10)


def test_potential_for_some_elements_alone(artefacts, plugin, tmp_path):
    """What NULL stands for is invisible to it: the same as a structure without those atoms."""
    path = artefacts("nequip").path
    atoms = crystal(2)
    script = (
        HEADER
        + read_structure(atoms, tmp_path)
        + f"plugin load {plugin}\npair_style hybrid/overlay lj/cut 3.0 nequip\n"
        + f"pair_coeff * * lj/cut 0.0 1.0\npair_coeff * * nequip {path} NULL O Si\n"
        + OUTPUT
        + dump_forces()
    )
    energy, forces = energy_and_forces(script, tmp_path, ranks=2)
    seen = atoms.numbers != 1
    rest = (
        HEADER
        + read_structure(atoms[seen], tmp_path)
        + take_potential(plugin, "nequip", path)
        + OUTPUT
        + dump_forces()
    )
    expected_energy, expected_forces = energy_and_forces(rest, tmp_path)
    assert energy == pytest.approx(expected_energy, rel=1e-12)
    np.testing.assert_allclose(forces[seen], expected_forces, rtol=0, atol=1e-10)
    assert not forces[~seen].any()
