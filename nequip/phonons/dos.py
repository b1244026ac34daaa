"""Density of states and thermal properties, from a mesh of wave vectors that symmetry makes small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spglib
from ase import Atoms
from numpy.typing import NDArray
from scipy.constants import Avogadro, Boltzmann, Planck

from nequip.data.frame import FloatArray
from nequip.errors import ConfigError
from nequip.phonons.crystal import Phonons

LOWEST = 1e-3  # THz; below are the translations, and what is unstable
MESH_LENGTH = 50.0  # Å: points along a reciprocal vector times the length of the lattice vector


@dataclass(frozen=True)
class MeshModes:
    """Modes at the irreducible points of a mesh around Γ."""

    mesh: tuple[int, int, int]
    q: FloatArray  # [point, 3]
    weights: FloatArray  # [point], summing to 1
    frequencies: FloatArray  # [point, mode] THz
    shares: FloatArray  # [point, atom, mode]: |e|² of each atom, averaged over atoms that are equivalent


@dataclass(frozen=True)
class DensityOfStates:
    """States per THz and primitive cell; `by_element` sums to `total`, whose integral is 3 atoms."""

    frequency: FloatArray  # THz
    total: FloatArray
    by_element: dict[str, FloatArray]


@dataclass(frozen=True)
class ThermalProperties:
    """Of one mole of primitive cells, by temperature, in the units of phonopy."""

    temperature: FloatArray  # K
    free_energy: FloatArray  # kJ/mol, with the zero-point energy
    entropy: FloatArray  # J/K/mol
    heat_capacity: FloatArray  # J/K/mol, at constant volume
    zero_point_energy: float  # kJ/mol
    left_out: float  # share of the modes that are unstable, or translations: they are not counted


def default_mesh(atoms: Atoms) -> tuple[int, int, int]:
    """As many points along each reciprocal vector as make 50 Å."""
    a, b, c = (max(1, round(MESH_LENGTH / length)) for length in atoms.cell.lengths())
    return a, b, c


def mesh_modes(phonons: Phonons, mesh: tuple[int, int, int] | None = None) -> MeshModes:
    """Modes of a mesh around Γ, one point for each star of symmetry (and of time reversal).

    Raises:
        ConfigError: for a mesh with less than one point along a direction.
    """
    mesh = mesh or default_mesh(phonons.atoms)
    if min(mesh) < 1:
        raise ConfigError(f"the mesh is {mesh}: give three numbers of points, 1 or more.")
    atoms = phonons.atoms
    cell = (np.array(atoms.cell), atoms.get_scaled_positions(), atoms.numbers)
    star, grid = spglib.get_ir_reciprocal_mesh(mesh, cell, is_shift=[0, 0, 0], symprec=1e-4)
    points, counts = np.unique(star, return_counts=True)
    q = grid[points] / np.array(mesh)
    frequencies, vectors = phonons.modes(q)
    shares = (np.abs(vectors) ** 2).reshape(len(q), len(atoms), 3, -1).sum(2)
    dataset = spglib.get_symmetry_dataset(cell, symprec=1e-4)
    return MeshModes(mesh, q, counts / counts.sum(), frequencies, _averaged(shares, dataset.equivalent_atoms))


def _averaged(shares: FloatArray, equivalent: NDArray[np.int32]) -> FloatArray:
    """A point stands for its star, whose points share the weight among equivalent atoms."""
    result = shares.copy()
    for first in np.unique(equivalent):
        same = equivalent == first
        result[:, same] = shares[:, same].mean(axis=1, keepdims=True)
    return result


def density_of_states(
    phonons: Phonons, modes: MeshModes, width: float | None = None, num_points: int = 400
) -> DensityOfStates:
    """Each mode a Gaussian.

    Args:
        width: its standard deviation in THz; by default 1.5% of the range of frequencies.
    """
    low, high = float(modes.frequencies.min()), float(modes.frequencies.max())
    width = width or 0.015 * (high - low) or 0.01
    frequency = np.linspace(low - 5 * width, high + 5 * width, num_points)
    per_atom = np.zeros((len(phonons.atoms), num_points))
    for weight, at_q, shares in zip(modes.weights, modes.frequencies, modes.shares, strict=True):
        peaks = np.exp(-0.5 * ((frequency - at_q[:, None]) / width) ** 2)
        per_atom += weight * shares @ peaks / (width * np.sqrt(2 * np.pi))
    symbols = np.array(phonons.atoms.get_chemical_symbols())
    by_element = {name: per_atom[symbols == name].sum(0) for name in dict.fromkeys(symbols.tolist())}
    return DensityOfStates(frequency, per_atom.sum(0), by_element)


def thermal_properties(modes: MeshModes, temperatures: FloatArray) -> ThermalProperties:
    """Sums over harmonic oscillators, quantum mechanical.

    `F = Σ ħω/2 + kT ln(1 - e^-x)`, `S = Σ k (x n - ln(1 - e^-x))`, `C = Σ k x² n (n + 1)`, x = ħω/kT and
    n = 1 / (e^x - 1).
    """
    counted = modes.frequencies > LOWEST
    weights = np.broadcast_to(modes.weights[:, None], counted.shape)[counted]
    energy = Planck * 1e12 * modes.frequencies[counted]  # J
    zero_point = 0.5 * float(weights @ energy)
    rows = np.array([_at(float(t), energy, weights) for t in temperatures]).reshape(-1, 3)
    left_out = 1 - float(weights.sum()) / modes.frequencies.shape[1]
    return ThermalProperties(
        temperature=np.asarray(temperatures, dtype=float),
        free_energy=(zero_point + rows[:, 0]) * Avogadro / 1000,
        entropy=rows[:, 1] * Avogadro,
        heat_capacity=rows[:, 2] * Avogadro,
        zero_point_energy=zero_point * Avogadro / 1000,
        left_out=left_out,
    )


def _at(temperature: float, energy: FloatArray, weights: FloatArray) -> tuple[float, float, float]:
    """Free energy without zero point (J), entropy and heat capacity (J/K) of a cell."""
    if temperature <= 0:
        return 0.0, 0.0, 0.0
    x = energy / (Boltzmann * temperature)
    log = np.log1p(-np.exp(-x))
    number = np.exp(-x) / -np.expm1(-x)
    free = Boltzmann * temperature * (weights @ log)
    entropy = Boltzmann * (weights @ (x * number - log))
    return free, entropy, Boltzmann * (weights @ (x**2 * number * (number + 1)))
