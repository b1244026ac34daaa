"""Polarizabilities of the frames of pyscf_H2O_hessian.xyz, which have energies, forces, Hessians and dipoles.

At the same level, B3LYP/6-31G*, as central differences of the dipole in fields of ±0.001 a.u. (0.05 V/Å). It
runs with a Python that has pyscf and ASE's numbers alone: no part of the package is imported.

    python scripts/water_polarizabilities.py pyscf_H2O_hessian.npz water_polarizabilities.npz
"""

from __future__ import annotations

import sys

import numpy as np
from pyscf import dft, gto
from pyscf.data.nist import BOHR, HARTREE2EV

FIELD = 1e-3  # a.u.
SYMBOLS = {1: "H", 8: "O"}


def dipole(molecule: gto.Mole, field: np.ndarray, guess: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Dipole in a.u. in a field, and the density matrix it was found with."""
    calculation = dft.RKS(molecule, xc="b3lyp")
    calculation.grids.level = 5
    calculation.conv_tol = 1e-12
    core = calculation.get_hcore() + np.einsum("i,iab->ab", field, molecule.intor("int1e_r"))
    calculation.get_hcore = lambda *_: core
    calculation.kernel(dm0=guess)
    assert calculation.converged
    return calculation.dip_moment(unit="AU", verbose=0), calculation.make_rdm1()


def polarizability(numbers: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dipole in e·Å without a field, and -∂²E/∂field² in e·Å²/V."""
    atoms = [(SYMBOLS[int(number)], place) for number, place in zip(numbers, positions, strict=True)]
    molecule = gto.M(atom=atoms, basis="6-31g*", unit="Angstrom", verbose=0)
    at_rest, density = dipole(molecule, np.zeros(3), None)
    rows = []
    for axis in np.eye(3):
        up, _ = dipole(molecule, FIELD * axis, density)
        down, _ = dipole(molecule, -FIELD * axis, density)
        rows.append((up - down) / (2 * FIELD))
    found = np.array(rows)
    return at_rest * BOHR, 0.5 * (found + found.T) * BOHR**2 / HARTREE2EV


def main(source: str, target: str) -> None:
    """Write `dipole` and `polarizability` of all frames of `source`."""
    frames = np.load(source)
    found = [polarizability(frames["numbers"], positions) for positions in frames["positions"]]
    dipoles, polarizabilities = (np.array(values) for values in zip(*found, strict=True))
    print("largest difference of dipoles from those of the source:", np.abs(dipoles - frames["dipole_eA"]).max())
    np.savez(target, dipole_eA=dipoles, polarizability_eA2_V=polarizabilities, positions=frames["positions"])


if __name__ == "__main__":
    main(*sys.argv[1:])
