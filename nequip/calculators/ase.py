"""A potential as an ASE calculator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from nequip.calculators.verlet import VerletList
from nequip.data.frame import FloatArray, Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import ModelError
from nequip.export.archive import is_artefact
from nequip.export.artefact import CompiledPotential, refuse_options
from nequip.interop import load
from nequip.kernels.backend import Backend
from nequip.model.card import DtypeName
from nequip.model.checkpoint import convert
from nequip.model.device import find_device
from nequip.model.potential import Potential
from nequip.model.response import field_readout_of, raman_tensors
from nequip.nn.derivatives import Prediction
from nequip.phonons import hessian
from nequip.phonons.copies import MEMORY

Results = dict[str, Any]  # by ASE's property names: floats and numpy arrays


class NequIPCalculator(Calculator):
    """Energy, energies, forces and stress of structures in ASE, in eV and Å.

    Each calculator has its own copy of the potential and one neighbor list, which follows one
    structure: use one calculator for each structure that moves, and `evaluate` for many that do not.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012

    def __init__(
        self,
        potential: str | Path | Potential,
        device: str = "cpu",
        dtype: DtypeName | None = None,
        *,
        backend: Backend | None = None,
        radial_tables: bool | None = None,
        skin: float = 0.5,
        electric_field: Sequence[float] | None = None,
    ):
        """Load a potential, or copy the one given.

        Args:
            potential: a file that `nequip.load` reads, a potential in memory, or a file that `nequip-compile`
                wrote, which has its dtype, kernels and tables inside: the options for them are refused.
            device: "cpu", "cuda", "cuda:1", ...
            dtype: precision of the computation; None keeps the potential's own.
            backend: of the kernels; None keeps that of a potential in memory, else the fastest that runs.
            radial_tables: splines in the place of radial networks (Potential.tabulate_radial), which in
                float32 are faster and no less exact; None takes them there, where the model allows it.
                In float64 they are good to 1e-11 of the largest weight.
            skin: Å; the neighbor list is searched again once an atom moved more than half of it.
            electric_field: V/Å, in which structures are; for a potential trained with `model.electric_field`.

        Raises:
            CheckpointError: if the file cannot be read.
            ModelError: if the device is not there, the skin is negative, or the potential knows no field.
        """
        super().__init__()
        if skin < 0:
            raise ModelError(f"skin is {skin} Å: give zero (no skin) or a positive length.")
        self.device = find_device(device)
        self.potential: Potential | CompiledPotential
        if not isinstance(potential, Potential) and is_artefact(potential):
            refuse_options(potential, dtype=dtype, backend=backend, radial_tables=radial_tables)
            self.potential = CompiledPotential(potential, self.device)
        else:
            self.potential = _prepare(potential, self.device, dtype, backend)
            if radial_tables or (radial_tables is None and self.potential.card.dtype == "float32"):
                _tabulate(self.potential, required=radial_tables is not None)
        self._field = None
        if electric_field is not None:
            self._potential_in_field("is in an electric field")
            self._field = torch.tensor([list(electric_field)], dtype=torch.float64, device=self.device)
        if isinstance(self.potential, Potential) and self.potential.field_readout is not None:
            self.implemented_properties = [*self.implemented_properties, "dipole"]
        self._mapper = TypeMapper(self.potential.card.type_names)
        self.neighbor_list = VerletList(self._mapper, self.potential.cutoffs, skin)

    @classmethod
    def from_compiled_model(
        cls, compile_path: str | Path, device: str = "cpu", *, skin: float = 0.5
    ) -> NequIPCalculator:
        """A calculator for a file that `nequip-compile` wrote; the same as to construct one with it."""
        return cls(compile_path, device, skin=skin)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """As ASE's, with a sentence where a property cannot be had."""
        if name in ("forces", "stress") and self.potential.card.energy_only:
            raise PropertyNotImplementedError(
                f"this potential predicts energies only, no {name}: train one without energy_only."
            )
        structure = self.atoms if atoms is None else atoms
        if name == "stress" and structure is not None and structure.cell.rank < 3:
            raise PropertyNotImplementedError(
                "stress needs a cell with three lattice vectors: set atoms.cell, or do not ask for stress."
            )
        return super().get_property(name, atoms, allow_calculation)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Fill `results` with everything the potential predicts, whatever `properties` asks for."""
        super().calculate(atoms, properties, system_changes)
        graph = self.neighbor_list.graph(_frame(self.atoms), self.device)
        (self.results,) = _results(self.potential(graph._replace(field=self._field)), [len(self.atoms)])

    def get_hessian(self, atoms: Atoms | None = None, memory: float = MEMORY) -> FloatArray:
        """`∂²E/∂x_a ∂x_b` in eV/Å², [3 atoms, 3 atoms], exact; with a cell, at Γ. See nequip.phonons.hessian.

        Args:
            memory: GB that the derivatives may take.

        Raises:
            ModelError: for a compiled potential, which has first derivatives alone.
            DataError: for a structure that the potential cannot take.
        """
        atoms = self.atoms if atoms is None else atoms
        if isinstance(self.potential, CompiledPotential):
            raise ModelError(
                "a compiled potential has no second derivatives: make the calculator from the file that was "
                "compiled."
            )
        graph = build_graph(_frame(atoms), self._mapper, self.potential.cutoffs)
        # the second derivatives of radial tables are not those of the networks: train() drops them
        exact = deepcopy(self.potential).train().eval()
        return hessian(exact, graph.to(self.device), memory).cpu().numpy()

    def get_polarizability(self, atoms: Atoms | None = None) -> FloatArray:
        """`-∂²E/∂field²` in e·Å²/V, [3, 3], symmetric.

        Raises:
            ModelError: for a potential that knows no electric field, or a compiled one.
            DataError: for a structure that the potential cannot take.
        """
        prediction = self._potential_in_field("has a polarizability")(self._graph(atoms))
        assert prediction.polarizability is not None
        return prediction.polarizability[0].cpu().numpy()

    def get_born_charges(self, atoms: Atoms | None = None) -> FloatArray:
        """`∂dipole_i/∂x_j` in e as [atom, i, j]: forces change by them in a field. Their sum is zero.

        Raises:
            ModelError: for a potential that knows no electric field, or a compiled one.
            DataError: for a structure that the potential cannot take.
        """
        potential = deepcopy(self._potential_in_field("has Born charges"))
        potential.predict_born_charges = True
        charges = potential(self._graph(atoms)).born_charges
        assert charges is not None
        return charges.cpu().numpy()

    def get_raman_tensors(self, atoms: Atoms | None = None) -> FloatArray:
        """`∂α_ij/∂x_k` in e·Å/V as [atom, i, j, k]: how the polarizability α changes as atoms move.

        Raises:
            ModelError: for a potential that knows no electric field, or a compiled one.
            DataError: for a structure that the potential cannot take.
        """
        return raman_tensors(self._potential_in_field("has Raman tensors"), self._graph(atoms)).cpu().numpy()

    def _graph(self, atoms: Atoms | None) -> AtomicGraph:
        frame = _frame(self.atoms if atoms is None else atoms)
        graph = build_graph(frame, self._mapper, self.potential.cutoffs).to(self.device)
        return graph._replace(field=self._field)

    def _potential_in_field(self, what: str) -> Potential:
        """Raises ModelError for a potential that is compiled, or knows no field."""
        if isinstance(self.potential, CompiledPotential):
            raise ModelError(
                f"no compiled potential {what}: it is that of zero field, so make the calculator from the "
                "file that was compiled."
            )
        field_readout_of(self.potential)
        return self.potential

    def evaluate(self, structures: Iterable[Atoms], batch_size: int = 32) -> list[Results]:
        """Results of many structures, `batch_size` of them in one call of the potential.

        Each has the keys of `calculator.results`: energy, free_energy, energies, and, unless the
        potential is energy-only, forces, and stress (Voigt order) where there is a cell.

        Raises:
            DataError: for a structure that the potential cannot take, with its index.
            ModelError: for a batch size below 1.
        """
        if batch_size < 1:
            raise ModelError(
                f"batch_size is {batch_size}: give how many structures go into one call, at least 1."
            )
        if isinstance(self.potential, CompiledPotential) and not self.potential.takes_batches:
            batch_size = 1
        results: list[Results] = []
        for batch in _batches(enumerate(structures), batch_size):
            graphs = [
                build_graph(_frame(atoms), self._mapper, self.potential.cutoffs, where=f"structure {index}")
                for index, atoms in batch
            ]
            graph = collate(graphs).to(self.device)
            if self._field is not None:
                graph = graph._replace(field=self._field.expand(graph.num_graphs, 3))
            prediction = self.potential(graph)
            results += _results(prediction, [len(atoms) for _, atoms in batch])
        return results


def _prepare(
    source: str | Path | Potential, device: torch.device, dtype: DtypeName | None, backend: Backend | None
) -> Potential:
    if isinstance(source, Potential):
        if backend is not None:
            source = convert(source, backend=backend)
        potential = (deepcopy(source) if dtype is None else source.to_dtype(dtype)).to(device)
    else:
        potential = load(source, device=str(device), dtype=dtype, backend=backend or "auto")
    # train() drops the radial tables of a potential that is given: the calculator makes its own, or none
    return potential.train().eval().requires_grad_(False)


def _tabulate(potential: Potential, *, required: bool) -> None:
    try:
        potential.tabulate_radial()
    except ModelError:
        if required:
            raise


def _frame(atoms: Atoms) -> Frame:
    return Frame(
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.copy(),
        cell=np.array(atoms.cell),
        pbc=tuple(bool(periodic) for periodic in atoms.pbc),
    )


def _results(prediction: Prediction, sizes: list[int]) -> list[Results]:
    """A batch cut into one dictionary for each structure."""
    energy = prediction.energy.cpu().numpy()
    cuts = np.cumsum(sizes)[:-1]
    energies = np.split(prediction.atomic_energies.cpu().numpy(), cuts)
    results: list[Results] = [
        {"energy": float(total), "free_energy": float(total), "energies": parts}
        for total, parts in zip(energy, energies, strict=True)
    ]
    if prediction.dipole is not None:
        for result, dipole in zip(results, prediction.dipole.cpu().numpy(), strict=True):
            result["dipole"] = dipole
    if prediction.forces is None or prediction.stress is None:
        return results
    forces = np.split(prediction.forces.cpu().numpy(), cuts)
    for result, force, stress in zip(results, forces, prediction.stress.cpu().numpy(), strict=True):
        result["forces"] = force
        if np.isfinite(stress).all():
            result["stress"] = full_3x3_to_voigt_6_stress(stress)
    return results


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(items, size)):
        yield batch
