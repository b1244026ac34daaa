"""Molecular dynamics at constant energy: the first thing to ask of a new potential."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.io import write
from ase.md.verlet import VelocityVerlet

from nequip.data.frame import FloatArray
from nequip.errors import ConfigError, DataError

# A moment of inertia below this belongs to the axis of a linear molecule.
LINEAR = 1e-6  # amu Å²


@dataclass(frozen=True)
class NVESettings:
    """How long, how hot, how fine."""

    temperature: float = 300.0  # K, of the start; about half of it remains in a relaxed structure
    steps: int = 2000
    timestep: float = 0.5  # fs
    every: int = 10  # steps between two records
    seed: int = 0  # of the velocities

    def __post_init__(self) -> None:
        wrong = [name for name in ("timestep", "every") if not getattr(self, name) > 0]
        wrong += [name for name in ("temperature", "steps") if not getattr(self, name) >= 0]
        if wrong:
            raise ConfigError(f"{wrong[0]} is {getattr(self, wrong[0])}: give a positive number.")


@dataclass(frozen=True)
class NVERecord:
    """What was recorded along a trajectory; energies in eV for the whole structure."""

    time: FloatArray  # fs
    potential: FloatArray  # eV
    kinetic: FloatArray  # eV
    temperature: FloatArray  # K
    num_atoms: int

    @property
    def total(self) -> FloatArray:
        return self.potential + self.kinetic

    @property
    def drift(self) -> float:
        """Slope of the total energy by least squares, eV per atom and ps; NaN for one record."""
        if len(self.time) < 2:
            return float("nan")
        return float(np.polyfit(self.time / 1000, self.total / self.num_atoms, 1)[0])

    @property
    def fluctuation(self) -> float:
        """Standard deviation of the total energy about that slope, eV per atom; NaN for one record."""
        if len(self.time) < 2:
            return float("nan")
        line = np.polyval(np.polyfit(self.time, self.total / self.num_atoms, 1), self.time)
        return float(np.std(self.total / self.num_atoms - line))


def degrees_of_freedom(atoms: Atoms) -> int:
    """Momenta that are free once the whole neither drifts nor, without periodicity, turns."""
    if len(atoms) == 1:
        return 3
    rotations = 0 if atoms.pbc.any() else np.linalg.matrix_rank(_inertia(atoms), tol=LINEAR)
    return 3 * len(atoms) - 3 - int(rotations)


def set_velocities(atoms: Atoms, temperature: float, seed: int) -> None:
    """Maxwell-Boltzmann momenta at exactly `temperature` (K), neither drifting nor turning as a whole.

    A structure that is periodic in any direction keeps its angular momentum: there it means nothing.
    """
    masses = atoms.get_masses()[:, None]
    random = np.random.default_rng(seed).normal(size=(len(atoms), 3))
    velocities = random * np.sqrt(units.kB * temperature / masses)
    if len(atoms) > 1:
        velocities -= (masses * velocities).sum(0) / masses.sum()
        if not atoms.pbc.any():
            velocities -= _rigid_rotation(atoms, velocities)
    kinetic = 0.5 * (masses * velocities**2).sum()
    wanted = 0.5 * degrees_of_freedom(atoms) * units.kB * temperature
    atoms.set_velocities(velocities * np.sqrt(wanted / kinetic) if kinetic > 0 else velocities)


def _rigid_rotation(atoms: Atoms, velocities: FloatArray) -> FloatArray:
    """`ω × r` with `I ω = L`; the pseudo-inverse leaves out the axis of a linear molecule."""
    arms = atoms.positions - atoms.get_center_of_mass()
    angular = np.cross(arms, atoms.get_masses()[:, None] * velocities).sum(0)
    inertia = _inertia(atoms)
    return np.cross(np.linalg.pinv(inertia, rcond=LINEAR / np.linalg.norm(inertia)) @ angular, arms)


def _inertia(atoms: Atoms) -> FloatArray:
    """Inertia tensor about the center of mass, amu Å²."""
    masses = atoms.get_masses()[:, None]
    arms = atoms.positions - atoms.get_center_of_mass()
    return (masses * arms**2).sum() * np.eye(3) - (masses * arms).T @ arms


def run_nve(
    atoms: Atoms,
    settings: NVESettings,
    trajectory: Path | None = None,
    report: Callable[[int, NVERecord], None] = lambda step, record: None,
) -> NVERecord:
    """Velocity Verlet from fresh velocities; `atoms` carries the calculator and is moved.

    Args:
        trajectory: extended XYZ, one frame for each record, written as the run goes.
        report: called after each record with the step and everything recorded so far.

    Raises:
        DataError: if the atoms fly apart (the energy is no longer a finite number).
    """
    set_velocities(atoms, settings.temperature, settings.seed)
    freedom = degrees_of_freedom(atoms)
    rows: list[tuple[float, float, float, float]] = []
    if trajectory is not None:
        trajectory.write_text("")
    dynamics = VelocityVerlet(atoms, timestep=settings.timestep * units.fs)

    def record() -> None:
        step = dynamics.nsteps
        kinetic = atoms.get_kinetic_energy()
        rows.append(
            (
                step * settings.timestep,
                atoms.get_potential_energy(),
                kinetic,
                2 * kinetic / (freedom * units.kB),
            )
        )
        if not np.isfinite(rows[-1]).all():
            raise DataError(
                f"the energy is not a finite number at step {step}: the structure left what the potential "
                "knows, so start from a relaxed structure, or lower the time step or the temperature."
            )
        if trajectory is not None:
            write(trajectory, atoms, format="extxyz", append=True)
        report(step, NVERecord(*np.array(rows).T, num_atoms=len(atoms)))

    dynamics.attach(record, interval=settings.every)
    with dynamics:
        dynamics.run(settings.steps)
    return NVERecord(*np.array(rows).T, num_atoms=len(atoms))
