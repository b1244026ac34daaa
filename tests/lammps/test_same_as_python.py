"""LAMMPS with a compiled potential computes what the potential computes in Python."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from lammps_runs import (
    BAR,
    COMPONENTS,
    HEADER,
    OUTPUT,
    dump_forces,
    read_structure,
    run_lammps,
    succeed,
    take_potential,
)
from lammps_structures import STRUCTURES

from nequip.data.frame import Frame
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.model.potential import Potential
from nequip.nn.derivatives import Prediction

TOLERANCES = {"float64": 1e-10, "float32": 1e-5}  # relative to the largest value


def predict(potential: Potential, atoms: Atoms) -> Prediction:
    pbc = tuple(bool(periodic) for periodic in atoms.pbc)
    frame = Frame(atoms.numbers.astype(np.int64), atoms.positions, np.array(atoms.cell), pbc)
    return potential(build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs))


def close(values, expected, tolerance: float) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("architecture", ["nequip", "allegro", "mace"])
def test_python_and_lammps_agree(architecture, dtype, artefacts, plugin, tmp_path):
    made = artefacts(architecture, dtype)
    script = "\nclear\n".join(
        HEADER
        + read_structure(atoms, tmp_path, name)
        + take_potential(plugin, architecture, made.path)
        + OUTPUT
        + dump_forces(f"{name}.dump")
        + "run 0\n"
        for name, atoms in STRUCTURES.items()
    )
    run = succeed(run_lammps(script, tmp_path, ranks=2))
    tolerance = TOLERANCES[dtype]
    for (name, atoms), table in zip(STRUCTURES.items(), run.tables(), strict=True):
        exact = predict(made.potential, atoms)
        virial = [exact.virial[0, i, j].item() for i, j in COMPONENTS]
        pressure = [table[f"P{'xyz'[i]}{'xyz'[j]}"][0] for i, j in COMPONENTS]
        of_atoms = [table[f"c_sums[{2 + k}]"][0] for k in range(6)]
        close(table["PotEng"][0], exact.energy[0], tolerance)
        close(run.dump(f"{name}.dump")["c_energies"], exact.atomic_energies, tolerance)
        close(run.forces(f"{name}.dump"), exact.forces, tolerance)
        close(np.array(pressure) * table["Volume"][0] / BAR, virial, tolerance)
        close(-np.array(of_atoms) / BAR, virial, tolerance)
