"""A potential as a TorchSim model: many structures in one call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nequip.calculators.verlet import VerletList
from nequip.data.frame import Frame
from nequip.data.graph import collate
from nequip.data.neighbors import TypeMapper
from nequip.errors import ModelError
from nequip.export.archive import is_artefact
from nequip.export.artefact import CompiledPotential
from nequip.interop import load
from nequip.model.device import find_device
from nequip.model.potential import DTYPES, Potential
from nequip.typing import Tensor

try:
    import torch_sim
    from torch_sim.models.interface import ModelInterface
except ImportError as error:
    raise ImportError(
        f"TorchSim cannot be imported ({error}): pip install torch-sim-atomistic brings it."
    ) from None


class NequIPTorchSimCalc(ModelInterface):
    """Energy, forces and stress of every structure of a state, in eV and Å, in the dtype of the state.

    The potential is one compiled with `--target batch`, a file that `nequip.load` reads, or one in memory.
    """

    def __init__(
        self,
        model: str | Path | Potential | CompiledPotential,
        device: str | torch.device = "cpu",
        *,
        skin: float = 0.5,
    ):
        """Load a potential, or take the one given.

        Args:
            skin: Å; the neighbors of a structure are searched again once an atom moved more than half of it.

        Raises:
            CheckpointError: if the file cannot be read, or was compiled for something else.
            ModelError: for a device that is not there, and for a file that takes one structure at a time.
        """
        super().__init__()
        self._device = find_device(device)
        self.model = _prepare(model, self._device)
        if isinstance(self.model, CompiledPotential) and not self.model.takes_batches:
            raise ModelError(
                f"{self.model.artefact.path} takes one structure at a time: compile the potential with "
                "--target batch."
            )
        card = self.model.card
        self._dtype = DTYPES[card.dtype]
        self._compute_forces = self._compute_stress = not card.energy_only
        self.skin = skin
        self._mapper = TypeMapper(card.type_names)
        self._lists: list[VerletList] = []  # one for each place in the batch

    @classmethod
    def from_compiled_model(
        cls, compile_path: str | Path, device: str | torch.device = "cpu", *, skin: float = 0.5
    ) -> NequIPTorchSimCalc:
        """A model for a file that `nequip-compile` wrote with `--target batch`."""
        return cls(compile_path, device, skin=skin)

    @ModelInterface.compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        """Whether forces are part of the results."""
        self._compute_forces = self._possible(value)

    @ModelInterface.compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        """Whether the stress is part of the results."""
        self._compute_stress = self._possible(value)

    def _possible(self, wanted: bool) -> bool:
        if wanted and self.model.card.energy_only:
            raise NotImplementedError("this potential predicts energies only: train one without energy_only.")
        return wanted

    def forward(self, state: torch_sim.SimState, **_: object) -> dict[str, Tensor]:
        """`energy` [system], `energies` [atom], `forces` [atom, 3], `stress` [system, 3, 3]."""
        frames = _frames(state)
        while len(self._lists) < len(frames):
            self._lists.append(VerletList(self._mapper, self.model.cutoffs, self.skin))
        graphs = [
            neighbors.graph(frame, self._device)
            for neighbors, frame in zip(self._lists, frames, strict=False)
        ]
        prediction = self.model(collate(graphs))
        results = {"energy": prediction.energy, "energies": prediction.atomic_energies}
        if self._compute_forces and prediction.forces is not None:
            results["forces"] = prediction.forces
        if self._compute_stress and prediction.stress is not None:
            results["stress"] = prediction.stress
        return {name: value.detach().to(state.positions) for name, value in results.items()}


def _prepare(
    model: str | Path | Potential | CompiledPotential, device: torch.device
) -> Potential | CompiledPotential:
    if isinstance(model, CompiledPotential):
        return model
    if isinstance(model, Potential):
        return model.to(device).eval().requires_grad_(False)
    if is_artefact(model):
        return CompiledPotential(model, device)
    return load(model, device).requires_grad_(False)


def _frames(state: torch_sim.SimState) -> list[Frame]:
    """Structures of a state, whose cells have lattice vectors in columns."""
    sizes = torch.bincount(state.system_idx, minlength=state.cell.shape[0]).cpu().numpy()
    cuts = np.cumsum(sizes)[:-1]
    positions = np.split(state.positions.detach().double().cpu().numpy(), cuts)
    numbers = np.split(state.atomic_numbers.cpu().numpy().astype(np.int64), cuts)
    cells = state.cell.detach().double().transpose(1, 2).cpu().numpy()
    x, y, z = np.broadcast_to(np.asarray(torch.as_tensor(state.pbc).cpu()), 3).tolist()
    return [
        Frame(numbers=number, positions=position, cell=cell, pbc=(x, y, z))
        for number, position, cell in zip(numbers, positions, cells, strict=True)
    ]
