"""Where the labels of a structure lie, and how they become a `Frame`.

A label is looked for in the calculator's results, then in `atoms.info` or `atoms.arrays`, under the
key given or else under the names that people use.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from nequip.data.frame import FloatArray, Frame
from nequip.errors import DataError, did_you_mean

logger = logging.getLogger(__name__)

# Of a Hessian, relative to its largest number: finite differences leave less, a wrong order of axes more.
ASYMMETRY = 0.05

# The group that frames of isolated atoms get, whatever the file calls them.
ISOLATED_ATOM = "isolated_atom"

USUAL_NAMES = {
    "energy": (
        "energy",
        "REF_energy",
        "ref_energy",
        "dft_energy",
        "DFT_energy",
        "energy_dft",
        "total_energy",
    ),
    "forces": ("forces", "force", "REF_forces", "ref_forces", "dft_forces", "dft_force", "DFT_forces"),
    "stress": ("stress", "REF_stress", "ref_stress", "dft_stress", "DFT_stress"),
    "virial": ("virial", "virials", "REF_virial", "REF_virials", "dft_virial", "dft_virials"),
    "hessian": ("hessian", "REF_hessian", "ref_hessian", "dft_hessian", "DFT_hessian"),
    "dipole": ("dipole", "REF_dipole", "ref_dipole", "dft_dipole", "DFT_dipole"),
    "polarizability": ("polarizability", "REF_polarizability", "ref_polarizability", "dft_polarizability"),
    "born_charges": ("born_charges", "REF_born_charges", "ref_born_charges", "dft_born_charges"),
    "weight": ("config_weight",),
    "group": ("group", "config_type"),
}
_ISOLATED_NAMES = {"isolated_atom", "isolatedatom", "isolated atom"}  # lower case


@dataclass(frozen=True)
class LabelMap:
    """Keys of the labels in a file; None looks under the usual names.

    `stress_sign` is -1 for files whose stress or virial has the sign opposite to ASE's
    (stress positive under tension, virial = -volume · stress).
    """

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    hessian: str | None = None
    dipole: str | None = None
    polarizability: str | None = None
    born_charges: str | None = None
    weight: str | None = None
    group: str | None = None
    stress_sign: int = 1

    def explicit(self) -> dict[str, str]:
        """The keys that were given."""
        keys = {name: getattr(self, name) for name in USUAL_NAMES}
        return {name: key for name, key in keys.items() if key is not None}

    def candidates(self, label: str) -> tuple[str, ...]:
        """The key given for `label`, else the usual names in their order."""
        key = getattr(self, label)
        return USUAL_NAMES[label] if key is None else (key,)


def available_keys(atoms: Atoms) -> set[str]:
    """Every key of `atoms` under which a label could lie."""
    results = atoms.calc.results if atoms.calc is not None else {}
    keys = {key for key, value in results.items() if value is not None}
    return keys | set(atoms.info) | (set(atoms.arrays) - {"numbers", "positions"})


def check_explicit_keys(labels: LabelMap, keys_seen: Iterable[str], where: str) -> None:
    """Raises DataError for a key that no frame has, with the nearest of those seen."""
    seen = set(keys_seen)
    for label, key in labels.explicit().items():
        if key not in seen:
            raise DataError(
                f"{where}: no frame has the key {key!r} given for the {label}{did_you_mean(key, seen)}; "
                f"present are {', '.join(sorted(seen)) or 'none'}."
            )


def warn_of_choices(labels: LabelMap, keys_seen: Iterable[str], where: str) -> None:
    """One line for each label that lies under several usual names, perhaps of several methods."""
    for label in [label for label in USUAL_NAMES if label not in ("weight", "group")]:
        found = [key for key in labels.candidates(label) if key in set(keys_seen)]
        if len(found) > 1:
            logger.warning(
                "%s has %s: %s is taken where a frame has it; say which with data.keys.%s=KEY.",
                *(where, " and ".join(found), found[0], label),
            )


def frame_from_atoms(atoms: Atoms, labels: LabelMap, where: str) -> Frame:
    """The structure with its labels in eV and Å; what it lacks or holds as NaN is None.

    Raises:
        DataError: for a structure without atoms, and for a label of the wrong shape, of text, or infinite.
    """
    if not len(atoms):
        raise DataError(f"{where} holds no atom.")
    values = _Values(atoms, labels, where)
    cell = np.array(atoms.cell.array, dtype=np.float64)
    return Frame(
        numbers=np.array(atoms.numbers, dtype=np.int64),
        positions=np.array(atoms.positions, dtype=np.float64),
        cell=cell,
        pbc=(bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2])),
        energy=_energy(values),
        forces=_forces(values, len(atoms)),
        stress=_stress(values, abs(np.linalg.det(cell))),
        hessian=_hessian(values, len(atoms)),
        dipole=_whole(values, "dipole", 3),
        polarizability=_polarizability(values),
        born_charges=_born_charges(values, len(atoms)),
        weight=_weight(values),
        group=group_name(len(atoms), atoms.info, labels),
    )


class _Values:
    """Look-up of labels in one structure, with errors that say where."""

    def __init__(self, atoms: Atoms, labels: LabelMap, where: str):
        self.labels, self.where = labels, where
        results = atoms.calc.results if atoms.calc is not None else {}
        self._places: tuple[dict[str, Any], ...] = (results, atoms.info, atoms.arrays)

    def find(self, label: str) -> tuple[str, Any] | None:
        """The key and value of `label`; None where no key is there or its value is None."""
        for place in self._places:
            for key in self.labels.candidates(label):
                if place.get(key) is not None:
                    return key, place[key]
        return None

    def numbers(self, label: str, sizes: tuple[int, ...]) -> FloatArray | None:
        """The label flattened, of one of `sizes` numbers, infinite ones refused."""
        found = self.find(label)
        if found is None:
            return None
        key, value = found
        try:
            array = np.array(value, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError):
            raise DataError(f"{self.where}: {key!r} (the {label}) is not made of numbers.") from None
        if array.size not in sizes:
            wanted = " or ".join(str(size) for size in sizes)
            raise DataError(
                f"{self.where}: {key!r} (the {label}) has {array.size} numbers, expected {wanted}."
            )
        if np.isinf(array).any():
            raise DataError(f"{self.where}: {key!r} (the {label}) is infinite.")
        return array


def _energy(values: _Values) -> float | None:
    energy = values.numbers("energy", (1,))
    return None if energy is None or np.isnan(energy[0]) else float(energy[0])


def _forces(values: _Values, num_atoms: int) -> FloatArray | None:
    forces = values.numbers("forces", (3 * num_atoms,))
    if forces is None:
        return None
    forces = forces.reshape(num_atoms, 3)
    missing = np.isnan(forces).any(axis=1)
    forces[missing] = np.nan
    return None if missing.all() else forces


def _stress(values: _Values, volume: float) -> FloatArray | None:
    """Stress in ASE's sign, from the virial where there is no stress; None without a volume."""
    if volume == 0:
        return None
    stress = values.numbers("stress", (6, 9))
    if stress is None or np.isnan(stress).any():
        virial = values.numbers("virial", (6, 9))
        stress = None if virial is None else -virial / volume
    if stress is None or np.isnan(stress).any():
        return None
    return values.labels.stress_sign * _full_tensor(stress)


def _hessian(values: _Values, num_atoms: int) -> FloatArray | None:
    """∂²E/∂x∂x [3 atom, 3 atom], x of one atom after the other; from any array of these in order."""
    found = values.numbers("hessian", (9 * num_atoms**2,))
    if found is None or np.isnan(found).any():
        return None
    hessian = found.reshape(3 * num_atoms, 3 * num_atoms)
    difference = np.abs(hessian - hessian.T).max()
    if difference > ASYMMETRY * np.abs(hessian).max():
        raise DataError(
            f"{values.where}: its Hessian is not symmetric (numbers that should be equal differ by "
            f"{difference:.3g} eV/Å²): give [3N, 3N] with x, y, z of one atom after the other."
        )
    return 0.5 * (hessian + hessian.T)


def _whole(values: _Values, label: str, size: int) -> FloatArray | None:
    """All of `size` numbers in a row; None where one is missing."""
    found = values.numbers(label, (size,))
    return None if found is None or np.isnan(found).any() else found.reshape(-1)


def _polarizability(values: _Values) -> FloatArray | None:
    found = values.numbers("polarizability", (6, 9))
    return None if found is None or np.isnan(found).any() else _full_tensor(found.reshape(-1))


def _born_charges(values: _Values, num_atoms: int) -> FloatArray | None:
    """[atom, 3, 3] with the direction of the dipole before that of the displacement."""
    found = _whole(values, "born_charges", 9 * num_atoms)
    return None if found is None else found.reshape(num_atoms, 3, 3)


def _full_tensor(flat: FloatArray) -> FloatArray:
    """3x3 and symmetric, from 9 numbers or from ASE's order xx yy zz yz xz xy."""
    if flat.size == 6:
        return flat[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)
    tensor = flat.reshape(3, 3)
    return 0.5 * (tensor + tensor.T)


def _weight(values: _Values) -> float:
    weight = values.numbers("weight", (1,))
    if weight is None:
        return 1.0
    if not weight[0] >= 0:
        raise DataError(f"{values.where}: its weight {weight[0]} must not be negative or NaN.")
    return float(weight[0])


def group_name(num_atoms: int, info: Mapping[str, Any], labels: LabelMap) -> str:
    """The group of a frame with `info`, "" without one; isolated atoms are told apart by it."""
    if num_atoms == 1:
        names = [info.get(key) for key in USUAL_NAMES["group"]]
        if any(str(name).lower() in _ISOLATED_NAMES for name in names):
            return ISOLATED_ATOM
    return next((str(info[key]) for key in labels.candidates("group") if info.get(key) is not None), "")
