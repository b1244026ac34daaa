"""Polarizabilities and Born charges for the frames of pyscf_H2O_hessian.xyz.

At the level of its energies and Hessians, B3LYP/6-31G*: polarizabilities by coupled-perturbed
Kohn-Sham equations, Born charges by central differences of dipoles. Any Python that has pyscf runs it. It
writes a copy of the file with `polarizability` (e·Å²/V) for each frame and `born_charges` (e) for each atom:

    python scripts/water_field_labels.py pyscf_H2O_hessian.xyz water_field.xyz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pyscf import dft, gto
from pyscf.data.nist import BOHR, HARTREE2EV
from pyscf.scf import cphf

STEP = 0.005  # Å; half of it changes the charges of water by 1e-5 e


def ground_state(elements: list[str], positions: np.ndarray, start: np.ndarray | None = None) -> dft.rks.RKS:
    """The converged B3LYP/6-31G* calculation; `start` is a density matrix to begin from."""
    atoms = list(zip(elements, positions.tolist(), strict=True))
    molecule = gto.M(atom=atoms, basis="6-31g*", unit="Angstrom", verbose=0)
    calculation = dft.RKS(molecule, xc="b3lyp")
    calculation.conv_tol, calculation.conv_tol_grad = 1e-12, 1e-8
    calculation.kernel(dm0=start)
    assert calculation.converged
    return calculation


def polarizability(calculation: dft.rks.RKS) -> np.ndarray:
    """`-∂²E/∂field²` in e·Å²/V, [3, 3]."""
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

    field = to_orbitals(calculation.mol.intor("int1e_r"))
    energies, occupations = calculation.mo_energy, calculation.mo_occ
    change = cphf.solve(induced, energies, occupations, field, np.zeros_like(field), 50, 1e-9)[0]
    found = -4 * np.einsum("xai,yai->xy", field, np.asarray(change).reshape(field.shape))
    return 0.5 * (found + found.T) * BOHR**2 / HARTREE2EV


def born_charges(calculation: dft.rks.RKS, elements: list[str], positions: np.ndarray) -> np.ndarray:
    """`∂dipole_i/∂x_j` in e, [atom, i, j]."""
    start = calculation.make_rdm1()
    charges = np.zeros((len(elements), 3, 3))
    for atom, axis in np.ndindex(len(elements), 3):
        for sign in (1, -1):
            moved = positions.copy()
            moved[atom, axis] += sign * STEP
            dipole = ground_state(elements, moved, start).dip_moment(unit="AU", verbose=0) * BOHR
            charges[atom, :, axis] += sign * dipole / (2 * STEP)
    return charges


def main(source: str, target: str) -> None:
    """Write the frames of `source` with their labels."""
    lines = Path(source).read_text(encoding="utf-8").splitlines()
    start = 0
    while start < len(lines):
        count = int(lines[start])
        atoms = range(start + 2, start + 2 + count)
        elements = [lines[row].split()[0] for row in atoms]
        positions = np.array([[float(x) for x in lines[row].split()[1:4]] for row in atoms])
        calculation = ground_state(elements, positions)
        charges = born_charges(calculation, elements, positions).reshape(count, 9)
        for row, charge in zip(atoms, charges, strict=True):
            lines[row] += " " + _text(charge)
        header = _with_column(lines[start + 1], "born_charges:R:9")
        lines[start + 1] = header + f' polarizability="{_text(polarizability(calculation).ravel())}"'
        start += count + 2
        print(f"{start} of {len(lines)} lines", flush=True)
    Path(target).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(numbers: np.ndarray) -> str:
    return " ".join(f"{x:.8f}" for x in numbers)


def _with_column(header: str, column: str) -> str:
    properties = next(word for word in header.split() if word.startswith("Properties="))
    return header.replace(properties, f"{properties}:{column}")


if __name__ == "__main__":
    main(*sys.argv[1:])
