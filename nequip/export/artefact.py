"""Compiled potentials in Python: loaded from their file alone, and called as a Potential is."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import torch

from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import Cutoffs
from nequip.errors import CheckpointError, KernelError, ModelError
from nequip.export.archive import extract, read_card
from nequip.export.card import ArtefactCard
from nequip.kernels.native.compiler import INSTRUCTION_SETS, instruction_set
from nequip.kernels.native.library import (
    KernelLibrary,
    loaded_operators,
    open_operators,
    read_abi,
    register_kernel,
)
from nequip.model.device import find_device
from nequip.nn import exchange
from nequip.nn.derivatives import Prediction
from nequip.typing import Tensor


class Artefact:
    """What a file computes: a list of tensors from a list of tensors, in the order of its card."""

    def __init__(self, path: str | Path, device: str | torch.device | None = None):
        """Load the file for a device; None: that which it was compiled for.

        Raises:
            CheckpointError: for a file that is not whole, or that does not fit this machine.
            ModelError: for a device that is not there.
        """
        self.path = Path(path)
        self.card = read_card(path)
        self.device = find_device(device or self.card.device)
        _check(self.card, self.path, self.device)
        _load_kernels(self.card, self.path)
        index = -1 if self.device.type == "cpu" else (self.device.index or 0)
        # What torch._inductor.aoti_load_package wraps, without the imports of a compiler.
        self._loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, index)

    def run(self, inputs: list[Tensor]) -> list[Tensor]:
        """Outputs; inputs are contiguous and on `device`."""
        return self._loader.run(inputs)


class CompiledPotential:
    """A potential in a file of target ase or batch: it predicts, and that is all."""

    def __init__(self, path: str | Path, device: str | torch.device | None = None):
        """As Artefact.

        Raises:
            CheckpointError: as Artefact, and for a file of another target.
            ModelError: as Artefact.
        """
        card = read_card(path)
        if card.target == "lammps":
            raise CheckpointError(
                f"{path} was compiled for LAMMPS; compile the potential again with --target ase (or batch)."
            )
        self.artefact = Artefact(path, device)
        self.card, self.device = card.model, self.artefact.device
        self.takes_batches = card.target == "batch"

    @property
    def cutoffs(self) -> Cutoffs:
        """The distances that graphs must be built with."""
        return Cutoffs(self.card.r_max, self.card.per_edge_type_cutoff)

    def __call__(self, graph: AtomicGraph) -> Prediction:
        """As of a Potential.

        Raises:
            ModelError: for a graph of several structures where the file takes one.
        """
        if graph.num_graphs != 1 and not self.takes_batches:
            raise ModelError(
                f"{self.artefact.path} takes one structure at a time, not {graph.num_graphs}: compile the "
                "potential with --target batch."
            )
        inputs = [getattr(graph, name).to(self.device) for name in self.artefact.card.inputs]
        outputs = self.artefact.run([value.contiguous() for value in inputs])
        missing = [None] * (len(Prediction._fields) - len(outputs))
        return Prediction(*outputs, *missing)


def refuse_options(path: str | Path, **options: object) -> None:
    """Raises ModelError for the first option that is given where the file has made the choice already."""
    for name, value in options.items():
        if value not in (None, "auto"):
            raise ModelError(
                f"{path} is compiled, and {name} is part of it: leave {name} out, or give the option to "
                "nequip-compile."
            )


def _check(card: ArtefactCard, path: Path, device: torch.device) -> None:
    """Whether this machine can run the file, or a sentence that says why not."""
    if device.type != card.device:
        raise CheckpointError(
            f"{path} was compiled for {card.device}, not {device.type}: compile it again with --device "
            f"{device.type}."
        )
    here = torch.__version__.partition("+")[0]
    if _release(here) != _release(card.torch_version):
        raise CheckpointError(
            f"{path} was compiled with torch {card.torch_version} and runs with releases of "
            f"{_release(card.torch_version)} alone, not with {here}: compile it again, or install that torch."
        )
    sets = [*INSTRUCTION_SETS]  # the widest first
    if sets.index(card.instruction_set) < sets.index(instruction_set()):
        raise CheckpointError(
            f"{path} was compiled for the instruction set {card.instruction_set}, which this machine lacks: "
            "compile it again on a machine of this kind."
        )


def _release(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _load_kernels(card: ArtefactCard, path: Path) -> None:
    """Register what the file's operators need, with the operators of this process or else the file's own."""
    if card.num_exchanges:
        exchange.register()
    if card.operators is None:
        return
    folder = Path(tempfile.mkdtemp(prefix="nequip-"))
    try:
        operators = loaded_operators() or open_operators(extract(path, card.operators, folder))
        if read_abi(operators) != card.abi:
            raise CheckpointError(
                f"{path} was written by e3forge {card.e3forge_version}, whose kernels do not fit those that "
                "this process has loaded already: use a process of its own, or compile it again."
            )
        for entry in card.kernels:
            library = extract(path, entry.file, folder)
            problem = register_kernel(
                operators, KernelLibrary(entry.kind, entry.spec, entry.scalar_bytes, library)
            )
            if problem is not None:
                raise KernelError(f"{path}: {problem}: compile it again on this machine.")
    finally:
        shutil.rmtree(folder)  # what is loaded stays loaded
