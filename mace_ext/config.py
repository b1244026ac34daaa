"""The shape of a MACE."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from nequip.model.assembly import NetworkConfig
from nequip.o3 import Irrep, Irreps

# How a layer sums messages, and whether it keeps what an atom was before.
InteractionName = Literal["plain", "residual", "density", "density_residual"]

PRESETS: dict[str, dict[str, Any]] = {
    "small": {"hidden_irreps": "128x0e"},
    "medium": {"hidden_irreps": "128x0e+128x1o"},
    "large": {"hidden_irreps": "128x0e+128x1o+128x2e"},
}


class MACEConfig(NetworkConfig, frozen=True):
    """The shape of a MACE. `size` gives a preset; any key given beside it wins.

    `avg_num_neighbors` itself divides sums over neighbors here, not its square root. The scale multiplies
    the pair potential too, which is the published MACE's: nuclei within the sum of their covalent radii.

    A model with several `heads` has a readout, scales and shifts for each, on the same layers.
    `graph.head` says which one a structure asks; it is 0, the first of them, where nothing else is said.
    Scales and shifts given here are those that every head starts from.
    """

    name: Literal["mace"] = "mace"  # the architecture
    size: Literal["small", "medium", "large"] | None = None  # a preset; keys given beside it win
    num_layers: int = Field(2, ge=1)  # interactions, each with its product
    hidden_irreps: str = "128x0e+128x1o"  # features between layers: equal channels, 0e first
    l_max: int = Field(3, ge=0)  # largest degree of spherical harmonics and of messages
    # largest degree of the products of messages (body order less one), for all layers or for each
    correlation: int | tuple[int, ...] = 3
    # plain: sums / avg_num_neighbors, without self-connection; residual: with it; density: sums / (1 + Σ ρ)
    first_interaction: InteractionName = "plain"
    interaction: InteractionName = "residual"  # of the layers after the first
    radial_basis: Literal["bessel", "chebyshev", "gaussian"] = "bessel"  # functions of the length
    num_basis: int = Field(8, ge=2)  # how many of them
    # exponent of the envelope that takes edges to zero at the cutoff
    polynomial_cutoff_p: int = Field(5, ge=2)
    # of the length that the basis sees, by covalent radii: more resolution at bonds
    distance_transform: Literal["agnesi", "soft"] | None = None
    radial_mlp: tuple[int, ...] = (64, 64, 64)  # widths of the hidden layers
    readout_mlp_width: int = Field(16, ge=1)  # neurons of the last layer's readout, for each head
    readout_mlp_nonlinearity: Literal["silu", "tanh", "abs"] | None = "silu"  # None: a chain of linear maps
    # eV, added to the energy of every atom; auto: what per_type_energy_shifts leave of the mean energy
    interaction_shift: float | Literal["auto"] = "auto"
    heads: tuple[str, ...] = ("default",)  # names of the readouts; the first is asked by default

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("size") in PRESETS:
            return {**PRESETS[values["size"]], **values}
        return values

    @field_validator("hidden_irreps")
    @classmethod
    def _equal_channels(cls, text: str) -> str:
        terms = Irreps(text).terms  # raises ValueError for what is none
        if not terms or terms[0][1] != Irrep(0, 1) or len({mul for mul, _ in terms}) > 1:
            raise ValueError(
                f"hidden_irreps {text!r} has to begin with 0e, and to have as many channels of all others, "
                "such as 64x0e+64x1o"
            )
        if len({irrep for _, irrep in terms}) < len(terms):
            raise ValueError(f"hidden_irreps {text!r} names an irrep twice")
        return text

    @model_validator(mode="after")
    def _layers_fit(self) -> MACEConfig:
        if isinstance(self.correlation, tuple) and len(self.correlation) != self.num_layers:
            raise ValueError(
                f"correlation has {len(self.correlation)} entries but num_layers={self.num_layers} needs as "
                "many (or a single number)"
            )
        if not all(1 <= degree <= 4 for degree in self.correlations):
            raise ValueError(f"correlation is {self.correlation}, but has to be from 1 to 4")
        if not self.heads or len(set(self.heads)) < len(self.heads):
            raise ValueError(f"heads are {', '.join(self.heads) or 'none'}, but have to be different names")
        return self

    @property
    def irreps_hidden(self) -> Irreps:
        """Features between layers."""
        return Irreps(self.hidden_irreps)

    @property
    def num_features(self) -> int:
        """Channels of every irrep."""
        return self.irreps_hidden.terms[0][0]

    @property
    def correlations(self) -> tuple[int, ...]:
        """Degree of the products of each layer."""
        if isinstance(self.correlation, int):
            return (self.correlation,) * self.num_layers
        return self.correlation

    def messages(self, index: int) -> Irreps:
        """What layer `index` sums over neighbors: (-1)^l, or both parities where hidden irreps have 0o."""
        both = index > 0 and Irrep(0, -1) in self.irreps_hidden
        return Irreps(
            (self.num_features, Irrep(degree, parity))
            for degree in range(self.l_max + 1)
            for parity in ((-1, 1) if both else ((-1) ** degree,))
        )

    def features(self, index: int) -> Irreps:
        """What layer `index` gives the next, or the last one the readout: scalars alone."""
        last = index == self.num_layers - 1
        return Irreps(self.irreps_hidden.terms[:1]) if last else self.irreps_hidden
