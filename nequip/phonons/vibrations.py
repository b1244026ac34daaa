"""Normal modes of a molecule from its Hessian."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.thermochemistry import IdealGasThermo

from nequip.data.frame import FloatArray
from nequip.errors import DataError
from nequip.phonons.crystal import signed_frequencies
from nequip.phonons.mode_symmetry import ModeSymmetry, mode_symmetries
from nequip.phonons.point_group import PointGroup, find_point_group
from nequip.units import INVERSE_CM

FRAMES = 20  # of the trajectory of a mode


@dataclass(frozen=True)
class Vibrations:
    """Vibrations of a molecule at rest, translations and rotations taken out."""

    atoms: Atoms
    frequencies: FloatArray  # [mode] cm⁻¹, ascending; unstable ones negative
    modes: FloatArray  # [mode, atom, 3], orthonormal with weights of mass: displacements times √m
    group: PointGroup
    symmetries: list[ModeSymmetry]  # of each mode

    @property
    def displacements(self) -> FloatArray:
        """[mode, atom, 3]: what atoms do, the largest of each mode 1."""
        moved = self.modes / np.sqrt(self.atoms.get_masses())[:, None]
        return moved / np.linalg.norm(moved, axis=2).max(axis=1, initial=1e-300)[:, None, None]

    @property
    def energies(self) -> FloatArray:
        """Quanta ħω of the stable modes in eV."""
        return self.frequencies[self.frequencies > 0] * units.invcm

    @property
    def zero_point_energy(self) -> float:
        """eV."""
        return float(self.energies.sum() / 2)

    @property
    def unstable(self) -> int:
        """Number of modes along which the energy falls."""
        return int((self.frequencies <= 0).sum())


def vibrations(atoms: Atoms, hessian: FloatArray) -> Vibrations:
    """Normal modes of `hessian`, [3 atoms, 3 atoms] in eV/Å², in the space of no translation or rotation.

    Raises:
        DataError: for a single atom, which does not vibrate.
    """
    if len(atoms) < 2:
        raise DataError("a single atom does not vibrate: give a molecule.")
    inverse_root = np.repeat(atoms.get_masses() ** -0.5, 3)
    dynamical = inverse_root[:, None] * (0.5 * (hessian + hessian.T)) * inverse_root
    inner = _internal_basis(atoms)
    squares, vectors = np.linalg.eigh(inner.T @ dynamical @ inner)
    frequencies = signed_frequencies(squares, INVERSE_CM)
    modes = (inner @ vectors).T
    group = find_point_group(atoms)
    symmetries = mode_symmetries(group, frequencies, modes)
    return Vibrations(atoms, frequencies, modes.reshape(len(modes), -1, 3), group, symmetries)


def _internal_basis(atoms: Atoms) -> FloatArray:
    """Orthonormal columns at right angles to translations and rotations, weighted by √mass."""
    root = np.sqrt(atoms.get_masses())[:, None]
    arms = atoms.positions - atoms.get_center_of_mass()
    rigid = [np.broadcast_to(axis, arms.shape) for axis in np.eye(3)]
    rigid += [np.cross(axis, arms) for axis in np.eye(3)]
    columns = np.array([(root * motion).ravel() for motion in rigid]).T
    left, sizes, _ = np.linalg.svd(columns)
    return left[:, int((sizes > 1e-3 * sizes[0]).sum()) :]


def thermochemistry(
    vibrating: Vibrations, energy: float, temperature: float, pressure: float = 101325.0, spin: float = 0.0
) -> dict[str, float]:
    """Of an ideal gas of rigid rotors and harmonic oscillators, by ASE.

    Args:
        energy: of the molecule at rest, eV.
        temperature: K.
        pressure: Pa.
        spin: total spin; 0, 0.5, 1, ...

    Returns:
        `enthalpy`, `gibbs_energy` in eV and `entropy` in eV/K.

    Raises:
        DataError: for a structure with unstable modes, which has no equilibrium.
    """
    if vibrating.unstable:
        raise DataError(
            f"{vibrating.unstable} modes are unstable: thermochemistry is of a minimum of the energy, so "
            "displace the structure along them and relax it again."
        )
    linear = vibrating.group.linear
    thermo = IdealGasThermo(
        vib_energies=vibrating.energies,
        geometry="linear" if linear else "nonlinear",
        potentialenergy=energy,
        atoms=vibrating.atoms,
        symmetrynumber=vibrating.group.rotational,
        spin=spin,
    )
    return {
        "enthalpy": float(thermo.get_enthalpy(temperature, verbose=False)),
        "entropy": float(thermo.get_entropy(temperature, pressure, verbose=False)),
        "gibbs_energy": float(thermo.get_gibbs_energy(temperature, pressure, verbose=False)),
    }


def trajectory(vibrating: Vibrations, mode: int, amplitude: float = 0.3) -> list[Atoms]:
    """One period of a mode, to look at; the atom that moves most moves by `amplitude` Å."""
    frames: list[Atoms] = []
    for phase in np.arange(FRAMES) * 2 * np.pi / FRAMES:
        frame = vibrating.atoms.copy()
        frame.positions += amplitude * np.sin(phase) * vibrating.displacements[mode]
        frames.append(frame)
    return frames
