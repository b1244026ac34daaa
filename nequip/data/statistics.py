"""What a model wants to know of its training set, by one pass over the frames.

Energies are fitted by `E ≈ Σ_t N_t s_t` over all frames, weighted by `1/N`: the energies of single
atoms count as independent, so that the variance of a total energy grows like the number of atoms N.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nequip.data.frame import FloatArray
from nequip.data.neighbors import Cutoffs, IntArray, ScannedFrame, edge_lengths, shortest_distance
from nequip.errors import DataError

_BLOCK = 256  # frames whose rows are folded into the fit at once
# Labels whose frames are counted; energies and forces have more to tell.
_LABELS = ("stress", "hessian", "force_constants", "dipole", "polarizability", "born_charges")

_SEARCHED = 10  # frames without edges whose shortest distance is searched
_RANK_TOLERANCE = 1e-8  # of singular values, to the largest


@dataclass(frozen=True)
class Statistics:
    """Numbers of neighbors, energies in eV and forces in eV/Å of a training set."""

    type_names: tuple[str, ...]
    num_frames: int
    num_atoms: int
    num_atoms_per_type: dict[str, int]
    avg_num_neighbors: float
    per_type_num_neighbors: dict[str, float]  # by the type of the center
    shortest_distance: float  # Å; infinite without a pair
    num_energies: int  # frames with an energy
    num_forces: int  # atoms with a force
    num_stresses: int  # frames with a stress
    per_type_energy_shifts: dict[str, float] | None  # eV; None without energies
    energy_rms: float | None  # eV: root mean square of (E - Σ N_t s_t) / √N
    forces_rms: float | None  # eV/Å: over all components
    per_type_forces_rms: dict[str, float] | None
    singular: str = ""  # why the shifts are not those of least squares, where they are not
    num_hessians: int = 0  # frames with a Hessian
    num_force_constants: int = 0  # frames with force constants
    num_dipoles: int = 0  # frames with a dipole
    num_polarizabilities: int = 0
    num_born_charges: int = 0  # frames with Born charges

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)


class Tally:
    """What statistics need of some frames; tallies of other frames can be added to it."""

    def __init__(self, num_types: int):
        self._counts = _Counts(num_types)
        self._energies = EnergyFit(num_types)
        self._forces = _Forces(num_types)
        self._parts = {"counts": self._counts, "energies": self._energies, "forces": self._forces}

    def add(self, scanned: ScannedFrame) -> None:
        """Take in one frame."""
        self._counts.add(scanned)
        counts = np.bincount(scanned.types, minlength=len(self._counts.atoms))
        self._energies.add(counts, scanned.frame.energy)
        self._forces.add(scanned.types, scanned.frame.forces)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, for a file."""
        return {
            f"{name}.{key}": np.asarray(value)
            for name, part in self._parts.items()
            for key, value in part.state().items()
        }

    def add_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take in what another tally gave as `arrays`."""
        for name, part in self._parts.items():
            part.add_state({key: arrays[f"{name}.{key}"] for key in part.state()})

    def statistics(self, type_names: Sequence[str], cutoffs: Cutoffs) -> Statistics:
        """The numbers of all frames taken in.

        Raises:
            DataError: when no atom of all frames has a neighbor within the cutoff.
        """
        self._counts.check_edges(cutoffs)
        return _gather(tuple(type_names), self._counts, self._energies, self._forces)


def _gather(type_names: tuple[str, ...], counts: _Counts, energies: EnergyFit, forces: _Forces) -> Statistics:
    def named(values: NDArray[Any]) -> dict[str, Any]:
        return dict(zip(type_names, values.tolist(), strict=True))

    shifts, singular = energies.solve(type_names)
    atoms, labelled = counts.atoms, dict(zip(_LABELS, counts.labelled.tolist(), strict=True))
    return Statistics(
        type_names=type_names,
        num_frames=counts.frames,
        num_atoms=int(atoms.sum()),
        num_atoms_per_type=named(atoms),
        avg_num_neighbors=float(counts.edges.sum() / max(atoms.sum(), 1)),
        per_type_num_neighbors=named(counts.edges / np.maximum(atoms, 1)),
        shortest_distance=counts.shortest,
        num_energies=energies.frames,
        num_forces=int(forces.atoms.sum()),
        num_stresses=labelled["stress"],
        per_type_energy_shifts=None if shifts is None else named(shifts),
        energy_rms=None if shifts is None else energies.deviation(shifts),
        forces_rms=forces.rms(),
        per_type_forces_rms=named(forces.per_type_rms()) if forces.atoms.any() else None,
        singular=singular,
        num_hessians=labelled["hessian"],
        num_force_constants=labelled["force_constants"],
        num_dipoles=labelled["dipole"],
        num_polarizabilities=labelled["polarizability"],
        num_born_charges=labelled["born_charges"],
    )


class _Counts:
    """Atoms and edges by the type of the center."""

    def __init__(self, num_types: int):
        self.frames = 0
        self.labelled = np.zeros(len(_LABELS), dtype=np.int64)
        self.atoms = np.zeros(num_types, dtype=np.int64)
        self.edges = np.zeros(num_types, dtype=np.int64)
        self.shortest = float("inf")
        self._apart = float("inf")  # Å; the shortest distance in some of the frames without an edge
        self._num_apart = 0

    def add(self, scanned: ScannedFrame) -> None:
        """Count one frame."""
        frame, neighbors = scanned.frame, scanned.neighbors
        self.frames += 1
        self.labelled += [getattr(frame, name) is not None for name in _LABELS]
        self.atoms += np.bincount(scanned.types, minlength=len(self.atoms))
        self.edges += np.bincount(scanned.types[neighbors.center], minlength=len(self.atoms))
        if len(neighbors.center):
            self.shortest = min(self.shortest, float(edge_lengths(frame, neighbors).min()))
        elif self._num_apart < _SEARCHED and not self.edges.any():
            self._num_apart += 1
            self._apart = min(self._apart, shortest_distance(frame))

    def state(self) -> dict[str, Any]:
        """What `add_state` takes."""
        return {
            "frames": self.frames,
            "labelled": self.labelled,
            "atoms": self.atoms,
            "edges": self.edges,
            "shortest": [self.shortest, self._apart],
        }

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Count the frames of another."""
        self.frames += int(state["frames"])
        self.labelled += state["labelled"]
        self.atoms += state["atoms"]
        self.edges += state["edges"]
        shortest, apart = state["shortest"].tolist()
        self.shortest, self._apart = min(self.shortest, shortest), min(self._apart, apart)

    def check_edges(self, cutoffs: Cutoffs) -> None:
        """Raises DataError when no frame had an edge."""
        if self.edges.any():
            return
        raise DataError(
            f"no atom of the {self.frames} training frames has a neighbor within r_max = {cutoffs.r_max} Å; "
            f"the shortest distance found is {self._apart:.3f} Å: raise r_max, or check the units of the "
            "positions (Å) and the cells."
        )


class EnergyFit:
    """Streaming least squares: the triangular factor of all rows `[N_t, E] / √N` seen so far.

    Unlike normal equations a factor R loses no digits: `‖R (s, -1)‖` is the norm of the residual
    for any shifts s, however large the energies are beside it.
    """

    def __init__(self, num_types: int):
        self.frames = 0
        self._sum_energy, self._sum_atoms = 0.0, 0
        self._factor: FloatArray = np.zeros((0, num_types + 1))
        self._rows: list[FloatArray] = []

    def add(self, counts: IntArray, energy: float | None) -> None:
        """Take in the number of atoms of each type and the energy of one frame."""
        if energy is None:
            return
        num_atoms = int(counts.sum())
        self.frames += 1
        self._sum_energy += energy
        self._sum_atoms += num_atoms
        self._rows.append(np.append(counts, energy) / np.sqrt(num_atoms))
        if len(self._rows) == _BLOCK:
            self._fold()

    def state(self) -> dict[str, Any]:
        """What `add_state` takes."""
        self._fold()
        return {
            "frames": [self.frames, self._sum_atoms],
            "sum_energy": self._sum_energy,
            "factor": self._factor,
        }

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take in the frames of another fit."""
        self._fold()
        self.frames += int(state["frames"][0])
        self._sum_atoms += int(state["frames"][1])
        self._sum_energy += float(state["sum_energy"])
        if not len(self._factor):
            self._factor = state["factor"]
        elif len(state["factor"]):
            self._rows = list(state["factor"])

    def _fold(self) -> None:
        if self._rows:
            self._factor = np.asarray(np.linalg.qr(np.vstack([self._factor, *self._rows]), mode="r"))
            self._rows = []

    def solve(self, type_names: Sequence[str], *, what: str = "shifts") -> tuple[FloatArray | None, str]:
        """The shift of every type, and a sentence on these `what` where fits cannot tell them apart."""
        if not self.frames:
            return None, ""
        self._fold()
        columns, energies = self._factor[:, :-1], self._factor[:, -1]
        norms = np.linalg.norm(columns, axis=0)
        present = norms > 0
        scaled = columns[:, present] / norms[present]
        singular_values = np.linalg.svd(scaled, compute_uv=False)
        rank = int((singular_values > _RANK_TOLERANCE * singular_values[0]).sum())
        shifts = np.zeros(len(type_names))
        if rank == present.sum():
            shifts[present] = np.linalg.lstsq(scaled, energies)[0] / norms[present]
            return shifts, ""
        # The solution nearest to the mean energy per atom for every type.
        mean = self._sum_energy / self._sum_atoms
        rest = energies - columns[:, present].sum(axis=1) * mean
        shifts[present] = mean + np.linalg.lstsq(columns[:, present], rest, rcond=_RANK_TOLERANCE)[0]
        return shifts, (
            f"the compositions of the training frames do not tell the energies of {int(present.sum())} types "
            f"apart (rank {rank}), so their {what} are those nearest to the mean per atom, {mean:.4f} eV: "
            "fine for these compositions; for others give model.per_type_energy_shifts, or isolated atoms."
        )

    def deviation(self, shifts: FloatArray) -> float:
        """Root mean square of `(E - Σ_t N_t s_t) / √N` over the frames."""
        residual = self._factor @ np.append(shifts, -1.0)
        return float(np.linalg.norm(residual) / np.sqrt(self.frames))


class _Forces:
    """Sums of squared force components by type, atoms without a label left out."""

    def __init__(self, num_types: int):
        self.atoms = np.zeros(num_types, dtype=np.int64)
        self._squares = np.zeros(num_types)

    def add(self, types: IntArray, forces: FloatArray | None) -> None:
        """Take in the forces of one frame."""
        if forces is None:
            return
        squares = (forces**2).sum(axis=1)
        labelled = np.isfinite(squares)
        self.atoms += np.bincount(types[labelled], minlength=len(self.atoms))
        self._squares += np.bincount(types[labelled], squares[labelled], minlength=len(self.atoms))

    def state(self) -> dict[str, Any]:
        """What `add_state` takes."""
        return {"atoms": self.atoms, "squares": self._squares}

    def add_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take in the forces of other frames."""
        self.atoms += state["atoms"]
        self._squares += state["squares"]

    def rms(self) -> float | None:
        total = int(self.atoms.sum())
        return float(np.sqrt(self._squares.sum() / (3 * total))) if total else None

    def per_type_rms(self) -> FloatArray:
        return np.sqrt(self._squares / (3 * np.maximum(self.atoms, 1)))
