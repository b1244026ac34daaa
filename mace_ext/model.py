"""MACE: many-body equivariant messages in few layers (Batatia et al., arXiv:2206.07697)."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import torch

from mace_ext.config import MACEConfig
from mace_ext.interaction import Interaction
from mace_ext.pair_tables import argument, tabulate_pairs
from mace_ext.product import Product
from mace_ext.radial import CovalentRadii, RadialEmbedding
from mace_ext.readout import LinearReadout, MLPReadout
from mace_ext.repulsion import PairRepulsion
from nequip.data.graph import AtomicGraph
from nequip.errors import ModelError
from nequip.model.assembly import (
    FIELD_AXES,
    avg_num_neighbors,
    field_readout,
    fresh_weights,
    make_card,
    scale_shift,
)
from nequip.model.axes import TYPES, Axis, WeightAxes
from nequip.model.card import ModelCard
from nequip.model.potential import DTYPES, FeatureIrreps, Potential
from nequip.model.registry import Architecture
from nequip.nn.geometry import NormalizedLength, edge_geometry
from nequip.nn.radial_network import RadialNetwork, tabulate_all
from nequip.o3 import Irreps, spherical_harmonics
from nequip.typing import Float, Tensor

# Of which there are tables for each pair: 36 of a few megabytes.
MOST_ELEMENTS = 8


class MACE(Potential):
    """Embedding of elements; layers of messages and their products; readouts of every layer."""

    def __init__(self, config: MACEConfig, card: ModelCard):
        super().__init__(card, config.backend)
        self.dtype = dtype = DTYPES[config.dtype]
        self.l_max, num_types, num_heads = config.l_max, len(card.type_names), len(config.heads)

        # Embedding
        self.type_embedding = torch.nn.Parameter(torch.randn(num_types, config.num_features, dtype=dtype))
        self.normalized_length = NormalizedLength(self.cutoffs)
        self.covalent_radii = CovalentRadii(card.type_names)
        self.radial_embedding = RadialEmbedding(config)

        # Layers
        neighbors = avg_num_neighbors(config)
        irreps = Irreps(config.irreps_hidden.terms[:1])
        self.interactions, self.products = torch.nn.ModuleList(), torch.nn.ModuleList()
        for index in range(config.num_layers):
            self.interactions.append(Interaction(config, index, irreps, neighbors))
            self.products.append(Product(config, index))
            irreps = config.features(index)

        # Readouts
        self.readouts = torch.nn.ModuleList(
            LinearReadout(config.num_features, num_heads, dtype) for _ in range(max(config.num_layers - 1, 1))
        )
        if config.num_layers > 1:
            width, activation = config.readout_mlp_width, config.readout_mlp_nonlinearity
            self.readouts.append(MLPReadout(config.num_features, width, num_heads, activation, dtype))
        self.repulsion = None
        if config.pair_potential == "zbl":
            self.repulsion = PairRepulsion(card.type_names, config.polynomial_cutoff_p)
        assert config.interaction_shift != "auto", "interaction_shift is not resolved"
        self.scale_shift = scale_shift(config, num_heads)
        self.scale_shift.shifts.data.add_(config.interaction_shift)
        self.field_readout = field_readout(config, self.feature_irreps.last)

    def atomic_energies(self, graph: AtomicGraph) -> Float[Tensor, " owned"]:
        """Energy of each atom in eV."""
        return self.energies_and_features(graph)[0]

    @property
    def feature_irreps(self) -> FeatureIrreps:
        """See Potential."""
        products = [product for _, product in self.layers()]
        return FeatureIrreps(products[0].spec.irreps_out, products[self._last_equivariant].spec.irreps_out)

    @property
    def _last_equivariant(self) -> int:
        """The layer before the last, which gives scalars alone."""
        return max(len(self.products) - 2, 0)

    def energies_and_features(
        self, graph: AtomicGraph, added: Float[Tensor, "owned component_first"] | None = None
    ) -> tuple[Float[Tensor, " owned"], Float[Tensor, "owned component_last"]]:
        """See Potential."""
        geometry = edge_geometry(graph)
        x = self.normalized_length(geometry.length, graph)
        bond = self.covalent_radii(graph.types[graph.center], graph.types[graph.neighbor])
        tabulated = all(network.table is not None for network in self._radial_networks())
        radial = None if tabulated else self.radial_embedding(x, geometry.length, bond).to(self.dtype)
        place = self._place(x, graph) if tabulated else x
        sh = spherical_harmonics(geometry.unit, self.l_max).to(self.dtype)
        types = graph.owned_types
        heads = graph.head[graph.batch[: graph.num_owned]]

        h = features = (self.type_embedding / sqrt(len(self.type_embedding)))[graph.types]
        energies = geometry.length.new_zeros(types.shape[0], len(self.heads))
        for index, ((interaction, product), readout) in enumerate(
            zip(self.layers(), self.readouts, strict=True)
        ):
            message, kept = interaction(h, sh, place, radial, graph)
            h = product(message, kept, types)
            if index == 0 and added is not None:
                h = h + added
            if index == self._last_equivariant:
                features = h
            energies = energies + readout(h).double()

        energies = energies.gather(1, heads.unsqueeze(1)).squeeze(1)
        if self.repulsion is not None:
            energies = energies + self.repulsion(graph, geometry.length, bond)
        return self.scale_shift(energies, types, heads), features

    @property
    def energy_shifts(self) -> Float[Tensor, "head type"]:
        """See Potential."""
        return self.scale_shift.shifts

    def weight_axes(self) -> WeightAxes:
        """See Potential; every layer has matrices and weights of products for each element."""
        per_head_and_type = (Axis("heads"), Axis("types", 1))
        axes: WeightAxes = {"type_embedding": (Axis("types", divided=True),), **FIELD_AXES}
        axes |= {f"scale_shift.{name}": per_head_and_type for name in ("scales", "shifts")}
        for index, (interaction, _) in enumerate(self.layers()):
            for irrep in interaction.skip.weights:
                axes[f"interactions.{index}.skip.weights.{irrep}"] = (Axis("types", divided=True),)
            axes[f"products.{index}.weight"] = TYPES
        for index, readout in enumerate(self.readouts):
            assert isinstance(readout, LinearReadout | MLPReadout)
            for key, axis in readout.axes.items():
                axes[f"readouts.{index}.{key}"] = (axis,)
        return axes

    def layers(self) -> Iterator[tuple[Interaction, Product]]:
        """Pairs of interaction and product, in their order."""
        for interaction, product in zip(self.interactions, self.products, strict=True):
            assert isinstance(interaction, Interaction)
            assert isinstance(product, Product)
            yield interaction, product

    def _place(self, x: Float[Tensor, " edge"], graph: AtomicGraph) -> Float[Tensor, " edge"]:
        """What tables are functions of."""
        if self.radial_embedding.transform is None:
            return x
        pair = self.covalent_radii.pair(graph.types[graph.center], graph.types[graph.neighbor])
        return argument(x, pair)

    def _radial_networks(self) -> list[RadialNetwork]:
        return [network for interaction, _ in self.layers() for network in interaction.networks]

    def tabulate_radial(self, tolerance: float | None = None) -> float:
        """See Potential; with a transform of lengths there is a table for each pair of elements."""
        self.eval()
        networks, tolerance = self._radial_networks(), tolerance or self.table_tolerance
        if self.radial_embedding.transform is None:
            return tabulate_all(networks, self.radial_embedding.along(bond=0.0), tolerance)
        if len(self.card.type_names) > MOST_ELEMENTS or self.card.per_edge_type_cutoff is not None:
            raise ModelError(
                f"by the {self.radial_embedding.transform} transform radial weights depend on both elements: "
                f"there are no tables for more than {MOST_ELEMENTS}, nor for cutoffs by pair."
            )
        bonds = self.covalent_radii.of_pairs()
        return tabulate_pairs(networks, [self.radial_embedding.along(bond) for bond in bonds], tolerance)


def build(config: MACEConfig) -> MACE:
    """A MACE with fresh weights drawn from `config.seed`, whatever was drawn before."""
    with fresh_weights(config.seed):
        return MACE(config, make_card(config))


ARCHITECTURE = Architecture("mace", MACEConfig, build)
