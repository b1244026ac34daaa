"""Allegro: strictly local equivariance, a pair of atoms at a time (Musaelian et al., arXiv:2204.05249)."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import torch

from allegro.config import AllegroConfig
from allegro.contraction import Backend, ContractionSpec, contract, environment, weighted_harmonics
from allegro.embedding import BesselEmbedding, SplineEmbedding
from allegro.irreps import harmonics, layer_irreps
from nequip.data.graph import AtomicGraph
from nequip.kernels.edges import Edges
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
from nequip.model.potential import DTYPES, FeatureIrreps, Potential
from nequip.model.registry import Architecture
from nequip.nn.geometry import NormalizedLength, edge_geometry
from nequip.nn.mlp import ScalarMLP
from nequip.nn.pieces import in_pieces
from nequip.nn.radial import BesselBasis
from nequip.o3 import join, spherical_harmonics, split
from nequip.typing import Float, Int, Tensor


class AllegroLayer(torch.nn.Module):
    """The tensors of an edge times the environment of its center, and what their scalars tell.

    Attributes:
        weight: [path, channel], or [path] without path-channel coupling.
        latent: from all scalars so far and the new ones to [scalars | weights of the next environment].
    """

    def __init__(self, spec: ContractionSpec, widths: list[int], config: AllegroConfig):
        super().__init__()
        dtype = DTYPES[config.dtype]
        shape = (len(spec.paths), spec.channels) if config.path_channel_coupling else (len(spec.paths),)
        self.spec = spec
        self.backend: Backend = config.backend
        self.weight = torch.nn.Parameter(torch.empty(shape, dtype=dtype).uniform_(-sqrt(3), sqrt(3)))
        self.latent = ScalarMLP(widths, dtype, config.latent_mlp_nonlinearity)

    def forward(
        self,
        tensors: Float[Tensor, "edge component_in"],
        scalars: Float[Tensor, "edge scalar_so_far"],
        env: Float[Tensor, "row component_env"],
        edges: Edges,
    ) -> tuple[Float[Tensor, "edge component_out"], Float[Tensor, "edge latent"]]:
        """New tensors, and what the latent network makes of their scalars."""
        weight = self.weight.reshape(len(self.spec.paths), -1).expand(-1, self.spec.channels)
        tensors = contract(tensors, env, weight, edges, spec=self.spec, backend=self.backend)
        invariant = self.spec.channels  # the first block is 0e
        told, _ = split(tensors, [invariant, tensors.shape[1] - invariant])
        return tensors, self.latent(join([scalars, told]))


class _Inputs(NamedTuple):
    """A graph as the network sees it."""

    on_edges: tuple[Tensor, Tensor, Tensor]  # directions, normalised lengths, pairs of types
    norm: Float[Tensor, " row"]  # 1/√avg_num_neighbors of each center
    edges: Edges
    length: Float[Tensor, " edge"]  # Å


class Allegro(Potential):
    """Embedding of pairs; layers that multiply an edge's tensors with its surroundings; a readout."""

    norm: Tensor

    def __init__(self, config: AllegroConfig, card: ModelCard):
        super().__init__(card, config.backend)
        self.dtype = dtype = DTYPES[config.dtype]
        self.l_max, self.num_types = config.l_max, len(card.type_names)
        self.irreps_env = harmonics(config.l_max, config.num_tensor_features)
        scalars, env_weights = config.num_scalar_features, len(self.irreps_env) * config.num_tensor_features
        self.num_scalars, self.num_env_weights = scalars, env_weights
        self.register_buffer("norm", avg_num_neighbors(config).rsqrt().to(dtype), persistent=False)

        # Embedding: scalars of an edge, and from them its first tensors and its part in an environment
        self.normalized_length = NormalizedLength(self.cutoffs)
        self.radial_embedding = _radial_embedding(config, self.num_types)
        widths = [config.embedding_dim, *config.hidden("scalar_embed"), scalars]
        self.scalar_embedding = ScalarMLP(widths, dtype, config.scalar_embed_mlp_nonlinearity)
        self.tensor_embedding = ScalarMLP([scalars, env_weights], dtype)
        self.first_latent = ScalarMLP([scalars, scalars + env_weights], dtype)

        # Layers
        irreps = layer_irreps(config.l_max, config.parity, config.num_layers, config.num_tensor_features)
        layers: list[AllegroLayer] = []
        for index in range(config.num_layers):
            last = index == config.num_layers - 1
            inputs = scalars * (index + 1) + config.num_tensor_features
            widths = [inputs, *config.hidden("latent"), scalars if last else scalars + env_weights]
            spec = ContractionSpec(irreps[index], self.irreps_env, irreps[index + 1])
            layers.append(AllegroLayer(spec, widths, config))
        self.layers = torch.nn.ModuleList(layers)

        # Readout
        widths = [scalars * (config.num_layers + 1), *config.hidden("readout"), 1]
        self.readout = ScalarMLP(widths, dtype, config.readout_mlp_nonlinearity)
        self.scale_shift = scale_shift(config)
        self.zbl = pair_potential(config)
        self.field_readout = field_readout(config, self.feature_irreps.last)

    def atomic_energies(self, graph: AtomicGraph) -> Float[Tensor, " atom"]:
        """Energy of each atom in eV: a sum over its edges, which know of no other edges than these."""
        inputs = self._inputs(graph)
        if self.training:
            energies, _ = self._local(*inputs.on_edges, inputs.norm, inputs.edges)
        else:
            energies = in_pieces(
                lambda *part: self._local(*part)[0],
                inputs.edges,
                on_edges=inputs.on_edges,
                on_rows=(inputs.norm,),
            )
        return self._complete(energies, inputs, graph)

    @property
    def feature_irreps(self) -> FeatureIrreps:
        """See Potential; what is added to an atom is added to the first tensors of each of its edges."""
        specs = [layer.spec for layer in self.layers if isinstance(layer, AllegroLayer)]
        return FeatureIrreps(specs[0].irreps_in, specs[-1].irreps_in)

    def energies_and_features(
        self, graph: AtomicGraph, added: Float[Tensor, "atom component_first"] | None = None
    ) -> tuple[Float[Tensor, " atom"], Float[Tensor, "atom component_last"]]:
        """See Potential; features are sums over edges."""
        inputs = self._inputs(graph)
        energies, tensors = self._local(*inputs.on_edges, inputs.norm, inputs.edges, added)
        features = tensors.new_zeros(inputs.norm.shape[0], tensors.shape[1])
        features = features.index_add(0, inputs.edges.center, tensors) * inputs.norm.unsqueeze(1)
        return self._complete(energies, inputs, graph), features

    def _inputs(self, graph: AtomicGraph) -> _Inputs:
        geometry = edge_geometry(graph)
        x = self.normalized_length(geometry.length, graph)
        pair = graph.types[graph.center] * self.num_types + graph.types[graph.neighbor]
        edges = Edges(graph.center, graph.neighbor, graph.row_ptr, graph.transpose)
        return _Inputs((geometry.unit, x, pair), self.norm[graph.owned_types], edges, geometry.length)

    def _complete(
        self, energies: Float[Tensor, "atom 1"], inputs: _Inputs, graph: AtomicGraph
    ) -> Float[Tensor, " atom"]:
        """Scaled, shifted, and with the pair potential."""
        energies = self.scale_shift(energies.squeeze(1), graph.owned_types)
        if self.zbl is not None:
            energies = energies + self.zbl(graph, inputs.length, inputs.on_edges[1])
        return energies

    @property
    def energy_shifts(self) -> Float[Tensor, "head type"]:
        """See Potential."""
        return self.scale_shift.shifts.unsqueeze(0)

    def weight_axes(self) -> WeightAxes:
        """See Potential; only the radial embedding knows types."""
        if isinstance(self.radial_embedding, SplineEmbedding):
            return {"radial_embedding.weight": (Axis("pairs"),), **SCALE_SHIFT_AXES, **FIELD_AXES}
        return {
            "radial_embedding.center": TYPES,
            "radial_embedding.neighbor": TYPES,
            **SCALE_SHIFT_AXES,
            **FIELD_AXES,
        }

    def _local(
        self,
        unit: Float[Tensor, "edge 3"],
        x: Float[Tensor, " edge"],
        pair: Int[Tensor, " edge"],
        norm: Float[Tensor, " row"],
        edges: Edges,
        added: Float[Tensor, "row component_first"] | None = None,
    ) -> tuple[Float[Tensor, "row 1"], Float[Tensor, "edge component_last"]]:
        """The energy of each center, from its edges alone, and the tensors that the last layer takes.

        Args:
            norm: 1/√avg_num_neighbors.
            added: to the first tensors of the edges of each center.
        """
        sh = spherical_harmonics(unit, self.l_max).to(self.dtype)
        embedded = self.scalar_embedding(self.radial_embedding(x, pair))
        embedding = self.tensor_embedding(embedded)
        tensors = weighted_harmonics(sh, embedding, irreps=self.irreps_env, backend=self.backend)
        if added is not None:
            tensors = tensors + added.index_select(0, edges.center)
        latent = self.first_latent(embedded)

        last = tensors
        scalars, env_weight = split(latent, [self.num_scalars, self.num_env_weights])
        for index, layer in enumerate(self.layers):
            last = tensors
            env = environment(sh, env_weight, edges, irreps=self.irreps_env, backend=self.backend)
            tensors, latent = layer(tensors, scalars, env * norm.unsqueeze(1), edges)
            if index < len(self.layers) - 1:
                latent, env_weight = split(latent, [self.num_scalars, self.num_env_weights])
            scalars = join([scalars, latent])  # dense: later layers see all scalars of earlier ones

        energies = self.readout(scalars).double()
        summed = energies.new_zeros(norm.shape[0], 1).index_add(0, edges.center, energies)
        return summed * norm.unsqueeze(1) / sqrt(2), last


def _radial_embedding(config: AllegroConfig, num_types: int) -> BesselEmbedding | SplineEmbedding:
    dim, dtype = config.embedding_dim, DTYPES[config.dtype]
    if config.radial_embedding == "spline":
        return SplineEmbedding(num_types, config.num_splines, config.spline_span, dim, dtype)
    basis = BesselBasis(config.num_bessels, config.bessel_trainable)
    return BesselEmbedding(num_types, basis, config.polynomial_cutoff_p, dim, dtype)


def build(config: AllegroConfig) -> Allegro:
    """An Allegro with fresh weights drawn from `config.seed`, whatever was drawn before."""
    with fresh_weights(config.seed):
        return Allegro(config, make_card(config))


ARCHITECTURE = Architecture("allegro", AllegroConfig, build)
