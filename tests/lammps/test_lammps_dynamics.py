"""Long runs: what physics conserves, atoms that change their process, and settings that must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from lammps_runs import HEADER, OUTPUT, dump_forces, read_structure, run_lammps, succeed, take_potential
from lammps_structures import crystal
from test_same_as_python import close, predict

STEP = 0.0005  # ps
DYNAMICS = f"fix integrate all nve\ntimestep {STEP}\n"


@pytest.fixture(scope="module")
def melt(artefacts, plugin, tmp_path_factory):
    """A thousand steps of a melt on two processes."""
    folder = tmp_path_factory.mktemp("melt")
    script = (
        HEADER
        + read_structure(crystal(3), folder)
        + take_potential(plugin, "nequip", artefacts("nequip").path)
        + OUTPUT
        + "minimize 0 1e-2 100 500\nreset_timestep 0\n"
        + "velocity all create 2000.0 87287 mom yes loop all\n"
        + "variable momentum equal sqrt(vcm(all,x)^2+vcm(all,y)^2+vcm(all,z)^2)\n"
        + "thermo_style custom step temp pe etotal v_momentum\nthermo_modify format float %24.16g\n"
        + "compute places all property/atom proc\n"
        + DYNAMICS
        + "thermo 10\ndump start all custom 1000000 start.dump id proc\nrun 0\nundump start\n"
        + dump_forces()
        + "run 1000\n"
    )
    return succeed(run_lammps(script, folder, ranks=2))


def test_energy_does_not_drift(melt):
    """Below 1e-5 eV per atom and ps."""
    table = melt.tables()[-1]
    slope = np.polyfit(table["Step"] * STEP, table["TotEng"], 1)[0]
    assert abs(slope) / len(crystal(3)) < 1e-5


def test_momentum_is_conserved(melt):
    assert melt.tables()[-1]["v_momentum"].max() < 1e-10


def test_forces_are_right_after_atoms_have_moved_to_other_processes(melt, artefacts):
    start, end = melt.dump("start.dump"), melt.dump("forces.dump")
    assert (start["proc"] != end["proc"]).sum() > 5
    atoms = crystal(3)
    atoms.positions = np.stack([end["x"], end["y"], end["z"]], axis=1)
    close(melt.forces("forces.dump"), predict(artefacts("nequip").potential, atoms).forces, 1e-8)
