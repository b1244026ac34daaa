"""Polarizabilities of the frames of pyscf_H2O_hessian.xyz, which have energies, forces, Hessians and dipoles.

At the same level, B3LYP/6-31G*, by coupled-perturbed Kohn-Sham equations. It runs with any Python that has
pyscf, and writes a copy of the file with `polarizability` (e·Å²/V) for each frame:

    python scripts/water_polarizabilities.py pyscf_H2O_hessian.xyz water_field.xyz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pyscf import dft, gto
from pyscf.data.nist import BOHR, HARTREE2EV
from pyscf.scf import cphf


def polarizability(atoms: list[tuple[str, list[float]]]) -> np.ndarray:
    """`-∂²E/∂field²` in e·Å²/V, [3, 3]."""
    molecule = gto.M(atom=atoms, basis="6-31g*", unit="Angstrom", verbose=0)
    calculation = dft.RKS(molecule, xc="b3lyp")
    calculation.conv_tol = 1e-11
    calculation.kernel()
    assert calculation.converged
    orbitals, filled = calculation.mo_coeff, calculation.mo_occ > 0
    occupied = orbitals[:, filled]
    response = calculation.gen_response(hermi=1)

    def to_orbitals(matrices: np.ndarray) -> np.ndarray:
        return np.einsum("xpq,pi,qj->xij", matrices, orbitals, occupied)

    def induced(change: np.ndarray) -> np.ndarray:
        """The potential that a first-order change of the occupied orbitals makes."""
        change = change.reshape(-1, orbitals.shape[1], occupied.shape[1])
        density = 2 * np.einsum("xai,pa,qi->xpq", change, orbitals, occupied)
        return to_orbitals(response(density + density.transpose(0, 2, 1))).ravel()

    field = to_orbitals(molecule.intor("int1e_r"))
    energies, occupations = calculation.mo_energy, calculation.mo_occ
    change = cphf.solve(induced, energies, occupations, field, np.zeros_like(field), 50, 1e-9)[0]
    found = -4 * np.einsum("xai,yai->xy", field, np.asarray(change).reshape(field.shape))
    return 0.5 * (found + found.T) * BOHR**2 / HARTREE2EV


def main(source: str, target: str) -> None:
    """Write the frames of `source` with their polarizabilities."""
    lines = Path(source).read_text(encoding="utf-8").splitlines()
    start = 0
    while start < len(lines):
        count = int(lines[start])
        rows = [line.split() for line in lines[start + 2 : start + 2 + count]]
        alpha = polarizability([(row[0], [float(x) for x in row[1:4]]) for row in rows])
        numbers = " ".join(f"{x:.8f}" for x in alpha.ravel())
        lines[start + 1] += f' polarizability="{numbers}"'
        start += count + 2
        print(f"{start} of {len(lines)} lines", flush=True)
    Path(target).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
