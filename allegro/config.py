"""The shape of an Allegro."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from nequip.model.assembly import NetworkConfig
from nequip.nn.mlp import Nonlinearity

PRESETS: dict[str, dict[str, Any]] = {
    "small": {"num_layers": 1, "l_max": 1, "num_scalar_features": 32, "num_tensor_features": 16},
    "medium": {"num_layers": 2, "l_max": 2, "num_scalar_features": 64, "num_tensor_features": 32},
    "large": {"num_layers": 3, "l_max": 3, "num_scalar_features": 128, "num_tensor_features": 32},
}


class AllegroConfig(NetworkConfig, frozen=True):
    """The shape of an Allegro. `size` gives a preset; any key given beside it wins."""

    name: Literal["allegro"] = "allegro"  # the architecture
    size: Literal["small", "medium", "large"] | None = None  # a preset; keys given beside it win
    num_layers: int = Field(2, ge=1)  # products with the environment
    l_max: int = Field(2, ge=0)  # largest degree of tensors and spherical harmonics
    parity: bool = True  # both parities for every l; False keeps (-1)^l
    num_scalar_features: int = Field(64, ge=1)  # channels of the scalars that layers hand on
    num_tensor_features: int = Field(32, ge=1)  # channels of the tensors, for all l
    path_channel_coupling: bool = True  # a weight for each path and channel, or one for each path
    radial_embedding: Literal["bessel", "spline"] = "bessel"  # functions of length and types of an edge
    radial_embedding_dim: int | None = Field(None, ge=1)  # default: num_scalar_features; bessel: even
    num_bessels: int = Field(8, ge=1)  # radial basis functions of bessel
    bessel_trainable: bool = False  # whether their frequencies are trained
    # exponent of the envelope that takes Bessel functions to zero at the cutoff
    polynomial_cutoff_p: int = Field(6, ge=2)
    num_splines: int = Field(16, ge=1)  # radial basis functions of spline
    spline_span: int = Field(12, ge=1)  # how many of them overlap
    scalar_embed_mlp_depth: int = Field(1, ge=0)  # hidden layers of the network behind the embedding
    scalar_embed_mlp_width: int | None = Field(None, ge=1)  # default: num_scalar_features
    scalar_embed_mlp_nonlinearity: Nonlinearity | None = "silu"  # after each hidden layer; None: none
    latent_mlp_depth: int = Field(1, ge=0)  # hidden layers of the network of each layer
    latent_mlp_width: int | None = Field(None, ge=1)  # default: num_scalar_features
    latent_mlp_nonlinearity: Nonlinearity | None = "silu"  # after each hidden layer; None: none
    readout_mlp_depth: int = Field(1, ge=0)  # hidden layers of the network that gives the energy of an edge
    readout_mlp_width: int | None = Field(None, ge=1)  # default: num_scalar_features
    readout_mlp_nonlinearity: Nonlinearity | None = "silu"  # after each hidden layer; None: none

    @model_validator(mode="before")
    @classmethod
    def _fill_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("size") in PRESETS:
            return {**PRESETS[values["size"]], **values}
        return values

    @model_validator(mode="after")
    def _embedding_fits(self) -> AllegroConfig:
        if self.radial_embedding == "bessel" and self.embedding_dim % 2:
            key = "num_scalar_features" if self.radial_embedding_dim is None else "radial_embedding_dim"
            raise ValueError(
                f"{key} is {self.embedding_dim}, but has to be even: half of the Bessel embedding belongs to "
                "the center, half to the neighbor (or give an even radial_embedding_dim)"
            )
        if self.radial_embedding == "spline" and self.spline_span > self.num_splines:
            raise ValueError(
                f"spline_span={self.spline_span} is more than num_splines={self.num_splines}: give no more"
            )
        return self

    @property
    def embedding_dim(self) -> int:
        """Channels of the radial embedding."""
        return self.radial_embedding_dim or self.num_scalar_features

    def hidden(self, network: Literal["scalar_embed", "latent", "readout"]) -> list[int]:
        """Widths of the hidden layers of a network."""
        width = getattr(self, f"{network}_mlp_width") or self.num_scalar_features
        return [width] * getattr(self, f"{network}_mlp_depth")
