"""NequIP: E(3)-equivariant message passing (Batzner et al., arXiv:2101.03164)."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from math import pi

import torch

from nequip.data.graph import AtomicGraph
from nequip.model.assembly import (
    FIELD_AXES,
    SCALE_SHIFT_AXES,
    avg_num_neighbors,
    field_readout,
    fresh_weights,
    make_card,
    pair_potential,
    scale_shift,
)
from nequip.model.axes import TYPES, Axis, WeightAxes
from nequip.model.card import ModelCard
from nequip.model.nequip_config import PRESETS, NequIPConfig
from nequip.model.potential import DTYPES, FeatureIrreps, Potential
from nequip.model.registry import Architecture
from nequip.nn.convolution import InteractionLayer, LayerShape
from nequip.nn.geometry import NormalizedLength, edge_geometry
from nequip.nn.linear import ElementLinear
from nequip.nn.mlp import ScalarMLP
from nequip.nn.radial import BesselBasis, Cutoff
from nequip.nn.radial_network import RadialNetwork, tabulate_all
from nequip.o3 import Irrep, Irreps, spherical_harmonics
from nequip.typing import Float, Tensor

__all__ = ["ARCHITECTURE", "PRESETS", "NequIP", "NequIPConfig", "build"]


class NequIP(Potential):
    """Embedding of types; interaction layers; a readout of the last layer's scalars."""

    def __init__(self, config: NequIPConfig, card: ModelCard):
        super().__init__(card, config.backend)
        dtype = DTYPES[config.dtype]
        num_types = len(card.type_names)
        type_features = config.type_embed_num_features or config.widths[0]
        self.l_max, self.solid, self.dtype = config.l_max, config.harmonics == "solid", dtype

        # Embedding
        self.type_embedding = torch.nn.Parameter(torch.randn(num_types, type_features, dtype=dtype))
        self.normalized_length = NormalizedLength(self.cutoffs)
        self.bessel = BesselBasis(config.num_bessels, config.bessel_trainable)
        onset = config.cutoff_onset
        self.cutoff = Cutoff(config.polynomial_cutoff_p, None if onset is None else onset / config.r_max)
        self.radial_scale = 2 * pi / config.r_max**2

        # Layers
        neighbors = avg_num_neighbors(config)
        irreps = Irreps([(type_features, Irrep(0, 1))])
        self.layers = torch.nn.ModuleList()
        for index in range(config.num_layers):
            shape = LayerShape(
                irreps_in=irreps,
                irreps_out=config.features(index),
                irreps_sh=config.irreps_sh,
                radial_widths=config.radial_widths,
                radial_nonlinearity=config.radial_mlp_nonlinearity,
                num_type_features=type_features,
                self_connection=config.self_connection_of(index),
                bias=config.linear_bias,
                norm=config.rms_norm,
            )
            layer = InteractionLayer(shape, avg_num_neighbors=neighbors, dtype=dtype, backend=config.backend)
            self.layers.append(layer)
            irreps = layer.irreps_out

        # Readout
        self.readout = ScalarMLP(config.readout_widths, dtype, config.readout_mlp_nonlinearity)
        self.scale_shift = scale_shift(config)
        self.zbl = pair_potential(config)
        self.field_readout = field_readout(config, self.feature_irreps.last)

    def atomic_energies(self, graph: AtomicGraph) -> Float[Tensor, " atom"]:
        """Energy of each atom in eV."""
        return self.energies_and_features(graph)[0]

    @property
    def feature_irreps(self) -> FeatureIrreps:
        """See Potential."""
        layers = self._interactions()
        return FeatureIrreps(layers[0].irreps_out, layers[self._last_equivariant].irreps_out)

    @property
    def _last_equivariant(self) -> int:
        """The layer before the last, which gives scalars alone."""
        return max(len(self.layers) - 2, 0)

    def energies_and_features(
        self, graph: AtomicGraph, added: Float[Tensor, "atom component_first"] | None = None
    ) -> tuple[Float[Tensor, " atom"], Float[Tensor, "atom component_last"]]:
        """See Potential."""
        geometry = edge_geometry(graph)
        x = self.normalized_length(geometry.length, graph)
        tabulated = all(network.table is not None for network in self._radial_networks())
        radial = None if tabulated else self.radial_basis(x).to(self.dtype)
        direction = geometry.unit * geometry.length.unsqueeze(1) if self.solid else geometry.unit
        sh = spherical_harmonics(direction, self.l_max).to(self.dtype)

        h = features = self.type_embedding[graph.types]
        for index, layer in enumerate(self.layers):
            h = layer(h, sh, x, radial, graph, self.type_embedding)
            if index == 0 and added is not None:
                h = h + added
            if index == self._last_equivariant:
                features = h

        energies = self.scale_shift(self.readout(h).squeeze(1), graph.owned_types)
        if self.zbl is not None:
            energies = energies + self.zbl(graph, geometry.length, x)
        return energies, features

    @property
    def energy_shifts(self) -> Float[Tensor, "head type"]:
        """See Potential."""
        return self.scale_shift.shifts.unsqueeze(0)

    def weight_axes(self) -> WeightAxes:
        """See Potential; layers know types by their embedding, and by self-connections of an element."""
        connections = {
            f"layers.{index}.self_connection.weights.{irrep}": (Axis("types", divided=True),)
            for index, layer in enumerate(self._interactions())
            if isinstance(layer.self_connection, ElementLinear)
            for irrep in layer.self_connection.weights
        }
        return {"type_embedding": TYPES, **connections, **SCALE_SHIFT_AXES, **FIELD_AXES}

    def _interactions(self) -> list[InteractionLayer]:
        return [layer for layer in self.layers if isinstance(layer, InteractionLayer)]

    def _radial_networks(self) -> list[RadialNetwork]:
        return [layer.radial for layer in self._interactions()]

    def radial_basis(self, x: Float[Tensor, " edge"]) -> Float[Tensor, "edge bessel"]:
        """What the radial networks see of an edge with normalised length x."""
        return self._basis(x, self.bessel)

    def _basis(self, x: Float[Tensor, " edge"], bessel: BesselBasis) -> Float[Tensor, "edge bessel"]:
        cutoff = self.cutoff(x).unsqueeze(1)
        return bessel(x) * cutoff * self.radial_scale

    def tabulate_radial(self, tolerance: float | None = None) -> float:
        """See Potential."""
        self.eval()
        tolerance = tolerance or self.table_tolerance
        basis = partial(self._basis, bessel=deepcopy(self.bessel).cpu().double())
        return tabulate_all(self._radial_networks(), basis, tolerance, self.cutoff.kinks)


def build(config: NequIPConfig) -> NequIP:
    """A NequIP with fresh weights drawn from `config.seed`, whatever was drawn before."""
    with fresh_weights(config.seed):
        return NequIP(config, make_card(config))


ARCHITECTURE = Architecture("nequip", NequIPConfig, build)
