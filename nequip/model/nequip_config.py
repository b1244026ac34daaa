"""The shape of a NequIP, as a validated configuration."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from nequip.model.assembly import NetworkConfig
from nequip.nn.convolution import SelfConnection
from nequip.nn.mlp import Nonlinearity
from nequip.o3 import Irrep, Irreps

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
EVEN = Irrep(0, 1)


class NequIPConfig(NetworkConfig, frozen=True):
    """The shape of a NequIP. `size` gives the published presets; any key given beside it wins."""

    name: Literal["nequip"] = "nequip"  # the architecture
    size: Literal["S", "M", "L", "XL"] | None = None  # a preset; keys given beside it win
    num_layers: int = Field(4, ge=1)  # interaction layers
    l_max: int = Field(1, ge=0)  # largest degree of features and spherical harmonics
    # both parities for every l; False keeps (-1)^l; ignored: rotations alone, mirror images may differ
    parity: bool | Literal["ignored"] = True
    num_features: int | tuple[int, ...] = 32  # channels, for all l or for each
    # features after each layer, such as 32x0e+16x1o, in the place of num_features; the last has 0e alone
    hidden_irreps: tuple[str, ...] | None = None
    harmonics: Literal["surface", "solid"] = "surface"  # of directions; solid: times r^l, r in Å
    type_embed_num_features: int | None = None  # default: num_features of l = 0
    radial_mlp_depth: int = Field(1, ge=0)  # hidden layers
    radial_mlp_width: PositiveInt | tuple[PositiveInt, ...] = 128  # neurons of all of them, or of each
    radial_mlp_nonlinearity: Nonlinearity = "silu"  # after each hidden layer
    num_bessels: int = Field(8, ge=1)  # radial basis functions
    bessel_trainable: bool = False  # whether their frequencies are trained
    # exponent of the envelope that takes edges to zero at the cutoff
    polynomial_cutoff_p: int = Field(6, ge=2)
    # Å; from here a switching function takes edges to zero at r_max, in the place of the envelope
    cutoff_onset: float | None = Field(None, gt=0)
    # what a layer adds of the atom itself, in all layers but the first or in each of a list. type_embedding:
    # a matrix made from the embedding of its type; element: a free matrix for each type; shared: one for all
    self_connection: SelfConnection | tuple[SelfConnection | None, ...] = "type_embedding"
    linear_bias: bool = False  # whether linear maps of features add numbers to even scalars
    rms_norm: bool = False  # whether features are divided by their root mean square, before the gate
    readout_mlp_depth: int = Field(0, ge=0)  # hidden layers
    # neurons of all of them, or of each; default: num_features of l = 0
    readout_mlp_width: PositiveInt | tuple[PositiveInt, ...] | None = None
    readout_mlp_nonlinearity: Nonlinearity | None = "silu"  # after each hidden layer; None: none

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("size") in PRESETS:
            return {**PRESET_COMMON, **PRESETS[values["size"]], **values}
        return values

    @model_validator(mode="after")
    def _one_entry_for_each(self) -> NequIPConfig:
        if isinstance(self.num_features, tuple) and len(self.num_features) != self.l_max + 1:
            raise ValueError(
                f"num_features has {len(self.num_features)} entries but l_max={self.l_max} needs "
                f"{self.l_max + 1}, one for each l (or a single number)"
            )
        for key, number, of in (
            ("hidden_irreps", "num_layers", "layer"),
            ("self_connection", "num_layers", "layer"),
            ("radial_mlp_width", "radial_mlp_depth", "hidden layer"),
            ("readout_mlp_width", "readout_mlp_depth", "hidden layer"),
        ):
            value, wanted = getattr(self, key), getattr(self, number)
            if isinstance(value, tuple) and len(value) != wanted:
                raise ValueError(
                    f"{key} has {len(value)} entries but {number}={wanted} needs as many, one for each {of}"
                )
        return self

    @model_validator(mode="after")
    def _irreps_fit(self) -> NequIPConfig:
        for text in self.hidden_irreps or ():
            irreps = [irrep for _, irrep in Irreps(text)]  # raises ValueError for what is none
            if len(set(irreps)) < len(irreps) or EVEN not in irreps:
                raise ValueError(f"hidden_irreps {text!r} has to have 0e, and no irrep twice")
        if self.hidden_irreps is not None and len(Irreps(self.hidden_irreps[-1])) > 1:
            raise ValueError(
                f"hidden_irreps ends with {self.hidden_irreps[-1]!r}, but the readout takes 0e alone"
            )
        return self

    @model_validator(mode="after")
    def _onset_within_cutoff(self) -> NequIPConfig:
        if self.cutoff_onset is not None and self.cutoff_onset >= self.r_max:
            raise ValueError(f"cutoff_onset is {self.cutoff_onset} Å, not below r_max = {self.r_max} Å")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels for each l."""
        if isinstance(self.num_features, int):
            return (self.num_features,) * (self.l_max + 1)
        return self.num_features

    @property
    def irreps_sh(self) -> Irreps:
        """Of spherical harmonics."""
        odd = 1 if self.parity == "ignored" else -1
        return Irreps((1, Irrep(degree, odd**degree)) for degree in range(self.l_max + 1))

    def features(self, index: int) -> Irreps:
        """After layer `index`: for each l even before odd, or one of the two; 0e alone after the last."""
        if self.hidden_irreps is not None:
            return Irreps(self.hidden_irreps[index])
        if index == self.num_layers - 1:
            return Irreps([(self.widths[0], EVEN)])
        if self.parity is True:
            return Irreps((mul, Irrep(degree, p)) for degree, mul in enumerate(self.widths) for p in (1, -1))
        return Irreps((mul, irrep) for mul, (_, irrep) in zip(self.widths, self.irreps_sh, strict=True))

    def self_connection_of(self, index: int) -> SelfConnection | None:
        """What layer `index` adds of the atom itself."""
        if isinstance(self.self_connection, tuple):
            return self.self_connection[index]
        return self.self_connection if index > 0 else None

    @property
    def radial_widths(self) -> tuple[int, ...]:
        """Of the radial networks, from the basis to the last hidden layer."""
        return self.num_bessels, *_each(self.radial_mlp_width, self.radial_mlp_depth)

    @property
    def readout_widths(self) -> tuple[int, ...]:
        """Of the readout, from the last layer's features to the energy."""
        channels = self.features(self.num_layers - 1).dim
        hidden = _each(self.readout_mlp_width or channels, self.readout_mlp_depth)
        return channels, *hidden, 1


def _each(width: int | tuple[int, ...], depth: int) -> tuple[int, ...]:
    return (width,) * depth if isinstance(width, int) else width
