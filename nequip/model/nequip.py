"""NequIP: E(3)-equivariant message passing (Batzner et al., arXiv:2101.03164)."""

from __future__ import annotations

from copy import deepcopy
from math import pi
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from nequip.data.graph import AtomicGraph
from nequip.model.assembly import (
    NetworkConfig,
    avg_num_neighbors,
    fresh_weights,
    make_card,
    pair_potential,
    scale_shift,
)
from nequip.model.card import ModelCard
from nequip.model.potential import DTYPES, Potential
from nequip.model.registry import Architecture
from nequip.nn.convolution import InteractionLayer
from nequip.nn.geometry import NormalizedLength, edge_geometry
from nequip.nn.mlp import Nonlinearity, ScalarMLP
from nequip.nn.radial import BesselBasis, polynomial_cutoff
from nequip.o3 import Irrep, Irreps, spherical_harmonics
from nequip.typing import Float, Tensor

PRESETS: dict[str, dict[str, Any]] = {
    "S": {"num_layers": 2, "l_max": 1, "num_features": (128, 64)},
    "M": {"num_layers": 4, "l_max": 2, "num_features": (128, 64, 32)},
    "L": {"num_layers": 6, "l_max": 3, "num_features": (128, 64, 32, 32)},
    "XL": {"num_layers": 6, "l_max": 4, "num_features": (320, 96, 64, 32, 32)},
}
PRESET_COMMON: dict[str, Any] = {
    "parity": False,
    "type_embed_num_features": 32,
    "radial_mlp_depth": 1,
    "radial_mlp_width": 128,
}


class NequIPConfig(NetworkConfig, frozen=True):
    """The shape of a NequIP. `size` gives the published presets; any key given beside it wins."""

    name: Literal["nequip"] = "nequip"  # the architecture
    size: Literal["S", "M", "L", "XL"] | None = None  # a preset; keys given beside it win
    num_layers: int = Field(4, ge=1)  # interaction layers
    l_max: int = Field(1, ge=0)  # largest degree of features and spherical harmonics
    parity: bool = True  # both parities for every l; False keeps (-1)^l
    num_features: int | tuple[int, ...] = 32  # channels, for all l or for each
    type_embed_num_features: int | None = None  # default: num_features of l = 0
    radial_mlp_depth: int = Field(1, ge=0)  # hidden layers
    radial_mlp_width: int = Field(128, ge=1)  # neurons of each
    num_bessels: int = Field(8, ge=1)  # radial basis functions
    bessel_trainable: bool = False  # whether their frequencies are trained
    # exponent of the envelope that takes edges to zero at the cutoff
    polynomial_cutoff_p: int = Field(6, ge=2)
    readout_mlp_depth: int = Field(0, ge=0)  # hidden layers
    readout_mlp_width: int | None = None  # default: num_features of l = 0
    readout_mlp_nonlinearity: Nonlinearity | None = "silu"  # after each hidden layer; None: none

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("size") in PRESETS:
            return {**PRESET_COMMON, **PRESETS[values["size"]], **values}
        return values

    @model_validator(mode="after")
    def _one_width_per_degree(self) -> NequIPConfig:
        if isinstance(self.num_features, tuple) and len(self.num_features) != self.l_max + 1:
            raise ValueError(
                f"num_features has {len(self.num_features)} entries but l_max={self.l_max} needs "
                f"{self.l_max + 1}, one for each l (or a single number)"
            )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels for each l."""
        if isinstance(self.num_features, int):
            return (self.num_features,) * (self.l_max + 1)
        return self.num_features

    @property
    def irreps_hidden(self) -> Irreps:
        """Features between layers: for each l even before odd, or (-1)^l alone without parity."""
        return Irreps(
            (self.widths[degree], Irrep(degree, p))
            for degree in range(self.l_max + 1)
            for p in ((1, -1) if self.parity else ((-1) ** degree,))
        )


class NequIP(Potential):
    """Embedding of types; interaction layers; a readout of the last layer's scalars."""

    def __init__(self, config: NequIPConfig, card: ModelCard):
        super().__init__(card, config.backend)
        dtype = DTYPES[config.dtype]
        num_types = len(card.type_names)
        type_features = config.type_embed_num_features or config.widths[0]
        self.l_max, self.cutoff_p, self.dtype = config.l_max, config.polynomial_cutoff_p, dtype

        # Embedding
        self.type_embedding = torch.nn.Parameter(torch.randn(num_types, type_features, dtype=dtype))
        self.normalized_length = NormalizedLength(self.cutoffs)
        self.bessel = BesselBasis(config.num_bessels, config.bessel_trainable)
        self.radial_scale = 2 * pi / config.r_max**2

        # Layers
        neighbors = avg_num_neighbors(config)
        irreps_sh = Irreps((1, Irrep(degree, (-1) ** degree)) for degree in range(config.l_max + 1))
        irreps = Irreps([(type_features, Irrep(0, 1))])
        scalars = Irreps([(config.widths[0], Irrep(0, 1))])
        self.layers = torch.nn.ModuleList()
        for index in range(config.num_layers):
            last = index == config.num_layers - 1
            layer = InteractionLayer(
                irreps,
                scalars if last else config.irreps_hidden,
                irreps_sh,
                [config.num_bessels] + [config.radial_mlp_width] * config.radial_mlp_depth,
                num_type_features=type_features if index > 0 else None,
                avg_num_neighbors=neighbors,
                dtype=dtype,
                backend=config.backend,
            )
            self.layers.append(layer)
            irreps = layer.irreps_out

        # Readout
        hidden = [config.readout_mlp_width or irreps.dim] * config.readout_mlp_depth
        self.readout = ScalarMLP([irreps.dim, *hidden, 1], dtype, config.readout_mlp_nonlinearity)
        self.scale_shift = scale_shift(config)
        self.zbl = pair_potential(config)

    def atomic_energies(self, graph: AtomicGraph) -> Float[Tensor, " atom"]:
        """Energy of each atom in eV."""
        geometry = edge_geometry(graph)
        x = self.normalized_length(geometry.length, graph)
        tabulated = all(layer.table is not None for layer in self._interactions())
        radial = None if tabulated else self.radial_basis(x).to(self.dtype)
        sh = spherical_harmonics(geometry.unit, self.l_max).to(self.dtype)

        h = self.type_embedding[graph.types]
        for layer in self.layers:
            h = layer(h, sh, x, radial, graph, self.type_embedding)

        energies = self.scale_shift(self.readout(h).squeeze(1), graph.types)
        if self.zbl is not None:
            energies = energies + self.zbl(graph, geometry.length, x)
        return energies

    def _interactions(self) -> list[InteractionLayer]:
        return [layer for layer in self.layers if isinstance(layer, InteractionLayer)]

    def radial_basis(self, x: Float[Tensor, " edge"]) -> Float[Tensor, "edge bessel"]:
        """What the radial networks see of an edge with normalised length x."""
        cutoff = polynomial_cutoff(x, self.cutoff_p).unsqueeze(1)
        return self.bessel(x) * cutoff * self.radial_scale

    def tabulate_radial(self, tolerance: float = 1e-8) -> float:
        """See Potential."""
        self.eval()
        bessel = deepcopy(self.bessel).cpu().double()

        def basis(x: Tensor) -> Tensor:
            return bessel(x) * polynomial_cutoff(x, self.cutoff_p).unsqueeze(1) * self.radial_scale

        made = [layer.make_table(basis, tolerance) for layer in self._interactions()]
        for layer, (table, _) in zip(self._interactions(), made, strict=True):
            layer.take_table(table)
        return max(error for _, error in made)


def build(config: NequIPConfig) -> NequIP:
    """A NequIP with fresh weights drawn from `config.seed`, whatever was drawn before."""
    with fresh_weights(config.seed):
        return NequIP(config, make_card(config))


ARCHITECTURE = Architecture("nequip", NequIPConfig, build)
