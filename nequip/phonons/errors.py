"""Errors of second derivatives: Hessians of frames that have them as labels, and frequencies of molecules."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from nequip.data.dataset import GraphDataset
from nequip.data.frame import FloatArray
from nequip.model.potential import Potential
from nequip.phonons.copies import MEMORY
from nequip.phonons.hessian import hessian
from nequip.phonons.vibrations import vibrations


def hessian_errors(potential: Potential, dataset: GraphDataset, memory: float = MEMORY) -> dict[str, float]:
    """MAE and RMSE over all elements (eV/Å²), and over the frequencies of molecules (cm⁻¹).

    Frequencies are those of the two Hessians, ascending, in the space of no translation or rotation, unstable
    ones negative: harmonic where a frame is at rest, a measure of curvature elsewhere. Empty without a
    labelled frame.

    Args:
        memory: GB that the derivatives may take.
    """
    elements: list[FloatArray] = []
    frequencies: list[FloatArray] = []
    device = next((weight.device for weight in potential.parameters()), "cpu")
    for position, index in enumerate(dataset.indices.tolist()):
        frame = dataset.source[index]
        if frame.hessian is None:
            continue
        found = hessian(potential, dataset[position].to(device), memory).cpu().numpy()
        elements.append((found - frame.hessian).ravel())
        if frame.num_atoms > 1 and not any(frame.pbc):
            atoms = Atoms(frame.numbers, frame.positions)
            both = [vibrations(atoms, each).frequencies for each in (found, frame.hessian)]
            frequencies.append(both[0] - both[1])
    return _mean_errors("hessian", elements) | _mean_errors("frequencies", frequencies)


def _mean_errors(name: str, parts: list[FloatArray]) -> dict[str, float]:
    if not parts:
        return {}
    errors = np.concatenate(parts)
    return {
        f"{name}_mae": float(np.abs(errors).mean()),
        f"{name}_rmse": float(np.sqrt((errors**2).mean())),
    }
