"""What a potential is: atomic energies of a graph, and everything that follows by differentiation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import Cutoffs
from nequip.errors import ModelError
from nequip.kernels.backend import Backend
from nequip.model.axes import WeightAxes
from nequip.model.card import ModelCard
from nequip.model.response import predict_in_field
from nequip.nn.derivatives import Prediction, differentiate, energy_only
from nequip.nn.field_readout import FieldReadout
from nequip.o3 import Irreps
from nequip.typing import Float, Tensor

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class FeatureIrreps(NamedTuple):
    """What atoms know of themselves within a network."""

    first: Irreps  # behind the first layer, where something may be added
    last: Irreps  # where they have more than scalars for the last time


class Potential(nn.Module, ABC):
    """A sum of atomic energies, invariant under rotation, reflection, translation and permutation.

    An architecture implements `atomic_energies`; forces, stress and virial follow here.
    `predict_derivatives = False` skips them, as training on energies alone does.
    With a `field_readout` it knows an electric field (nequip.model.response) and has dipole and
    polarizability; Born charges, three more backward passes, follow where `predict_born_charges = True`.
    """

    def __init__(self, card: ModelCard, backend: Backend = "auto"):
        super().__init__()
        self.card = card
        self.backend: Backend = backend  # of the kernels; no part of what is saved
        self.predict_derivatives = not card.energy_only
        self.predict_born_charges = False
        self.field_readout: FieldReadout | None = None

    @property
    def cutoffs(self) -> Cutoffs:
        """The distances that the graphs of this potential must be built with."""
        return Cutoffs(self.card.r_max, self.card.per_edge_type_cutoff)

    @abstractmethod
    def atomic_energies(self, graph: AtomicGraph) -> Float[Tensor, " owned"]:
        """Energy of each owned atom in eV, float64; differentiable in `positions`, `cell` and `shift`."""

    @property
    def feature_irreps(self) -> FeatureIrreps:
        """Of the features in `energies_and_features`.

        Raises:
            ModelError: for an architecture that gives none.
        """
        raise ModelError(f"{self.card.architecture} gives no features of atoms: choose another architecture.")

    def energies_and_features(
        self, graph: AtomicGraph, added: Float[Tensor, "owned component_first"] | None = None
    ) -> tuple[Float[Tensor, " owned"], Float[Tensor, "owned component_last"]]:
        """Atomic energies in eV, and the last equivariant features of atoms, of `feature_irreps.last`.

        Args:
            added: to the features behind the first layer, of `feature_irreps.first`: more to know of an atom.

        Raises:
            ModelError: for an architecture that gives no features.
        """
        raise ModelError(f"{self.card.architecture} gives no features of atoms: choose another architecture.")

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of its readouts, which `graph.head` points into; the first is the one asked by default."""
        return tuple(self.card.config.get("heads") or ("default",))

    @property
    def energy_shifts(self) -> Float[Tensor, "head type"]:
        """Energy of an atom of each type that its neighbors do not change, in eV: a view of the weights.

        Adding to it adds to the energy of every such atom; fine-tuning does so for new data.

        Raises:
            ModelError: for an architecture that does not say where its shifts lie.
        """
        raise ModelError(f"{self.card.architecture} does not say where its energy shifts lie.")

    def weight_axes(self) -> WeightAxes:
        """Which axes of which tensors of the state dict run over types or heads; `rebuild` relies on it.

        Raises:
            ModelError: for an architecture that does not say.
        """
        raise ModelError(
            f"{self.card.architecture} does not say which of its weights belong to types and heads: "
            "it keeps those that it has."
        )

    def forward(self, graph: AtomicGraph) -> Prediction:
        """Energy, forces, stress and virial of every structure in the graph, float64.

        In training mode the derivatives are themselves differentiable.
        """
        if self.field_readout is not None:
            return predict_in_field(self, graph)
        if not self.predict_derivatives:
            with torch.set_grad_enabled(self.training):
                return energy_only(self.atomic_energies, graph)
        return differentiate(self.atomic_energies, graph, create_graph=self.training)

    def to_dtype(self, dtype: str | torch.dtype) -> Potential:
        """A copy that computes in float32 or float64; geometry and sums of energies always are float64."""
        from nequip.model.checkpoint import convert

        return convert(self, dtype)

    @property
    def table_tolerance(self) -> float:
        """Error of radial tables unless another is asked for: in float32 below what rounding does anyway."""
        return 1e-8 if self.card.dtype == "float32" else 1e-11

    def tabulate_radial(self, tolerance: float | None = None) -> float:
        """Put tables of splines in the place of radial networks, for evaluation; the largest error.

        Errors are relative to the largest weight; None asks for `table_tolerance`. The weights stay as
        they are: what is saved has no tables, and `train()` drops them.

        Raises:
            ModelError: where there are no radial networks, or no table reaches `tolerance`.
        """
        raise ModelError(f"{self.card.architecture} has no radial networks to tabulate.")

    def save(self, path: str | Path) -> None:
        """Write one file, safetensors with the card inside; a file already there survives failure."""
        from nequip.model.checkpoint import save

        save(self, path)
