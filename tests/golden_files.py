"""Golden files: published models with random weights, and what they said of four structures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.stress import voigt_6_to_full_3x3_stress

from nequip.data.frame import Frame
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.interop import from_published
from nequip.kernels.backend import Backend
from nequip.nn.derivatives import Prediction

STRUCTURES = ["ethanol", "triclinic", "slab", "dimer"]


def golden_files(architecture: str) -> list[Path]:
    """Those of one architecture."""
    return sorted((Path(__file__).parent / "golden").glob(f"{architecture}_*.npz"))


class Golden:
    """One golden file, taken apart."""

    def __init__(self, path: Path):
        self.arrays = dict(np.load(path))
        self.config: dict[str, Any] = json.loads(str(self.arrays["config"]))
        self.state = {
            key.removeprefix("state/"): v for key, v in self.arrays.items() if key.startswith("state/")
        }

    def predict(
        self,
        structure: str,
        dtype: str,
        backend: Backend = "auto",
        *,
        tables: bool = False,
        device: str = "cpu",
    ) -> Prediction:
        potential = from_published(self.config, self.state, dtype, backend)
        if tables:
            potential.tabulate_radial()
        part = {
            key: self.arrays[f"struct/{structure}/{key}"] for key in ("numbers", "positions", "cell", "pbc")
        }
        frame = Frame(part["numbers"], part["positions"], part["cell"], tuple(bool(x) for x in part["pbc"]))
        graph = build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)
        prediction = potential.to(device)(graph.to(device))
        return Prediction(*(None if value is None else value.cpu() for value in prediction))

    def expected(self, structure: str) -> dict[str, torch.Tensor]:
        folder = f"out/{structure}"
        if "head" in self.config:
            folder = f"{folder}/{self.config['head']}"
        names = {"energy": "total_energy", "atomic_energies": "atomic_energy"}
        names |= {key: key for key in ("forces", "stress", "virial")}
        found = {
            ours: self.arrays[f"{folder}/{theirs}"]
            for ours, theirs in names.items()
            if f"{folder}/{theirs}" in self.arrays
        }
        if self.config["architecture"] == "mace":
            found["atomic_energies"] = found["atomic_energies"] + self._isolated_energies(structure)
            if f"{folder}/stress_voigt" in self.arrays:
                found["stress"] = voigt_6_to_full_3x3_stress(self.arrays[f"{folder}/stress_voigt"])
        return {name: torch.from_numpy(value) for name, value in found.items()}

    def _isolated_energies(self, structure: str) -> np.ndarray:
        """Those of single atoms, which MACE's atomic energies leave out."""
        heads, table = self.config.get("heads", ["default"]), np.atleast_2d(self.arrays["atomic_energies"])
        types = [self.config["atomic_numbers"].index(z) for z in self.arrays[f"struct/{structure}/numbers"]]
        return table[heads.index(self.config.get("head", heads[0]))][types]

    def check_float64(self, prediction: Prediction, structure: str) -> None:
        """All outputs agree to 1e-10."""
        for name, expected in self.expected(structure).items():
            actual = getattr(prediction, name).reshape(expected.shape)
            torch.testing.assert_close(actual, expected, atol=1e-10, rtol=1e-12, equal_nan=True, msg=name)

    def check_float32(self, prediction: Prediction, structure: str) -> None:
        """All outputs agree to 5e-5 of the largest."""
        for name, expected in self.expected(structure).items():
            actual = getattr(prediction, name).reshape(expected.shape)
            scale = float(expected.nan_to_num().abs().max())
            error = float((actual - expected).nan_to_num().abs().max())
            assert error <= 5e-5 * scale, f"{name}: {error} of {scale}"
            assert torch.equal(actual.isnan(), expected.isnan())
