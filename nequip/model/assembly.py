"""What architectures put together alike: the card, numbers of each type, scales and pair terms, the seed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from nequip.model.axes import TYPES, Axis, WeightAxes
from nequip.model.card import ModelCard
from nequip.model.cutoffs import resolve_cutoffs
from nequip.model.potential import DTYPES
from nequip.model.registry import ModelConfig
from nequip.nn.field_readout import MOMENTS, FieldReadout
from nequip.nn.per_type import ScaleShift, per_type_tensor
from nequip.nn.zbl import ZBL
from nequip.o3 import Irreps
from nequip.typing import Float, Tensor

# Of the scales and shifts that `scale_shift` makes.
SCALE_SHIFT_AXES: WeightAxes = {"scale_shift.scales": TYPES, "scale_shift.shifts": TYPES}

# Of what `field_readout` makes.
FIELD_AXES: WeightAxes = {
    **{f"field_readout.hidden.weights.{irrep}": (Axis("types", divided=True),) for _, irrep in MOMENTS},
    "field_readout.isotropic": TYPES,
}


class NetworkConfig(ModelConfig, frozen=True):
    """What every architecture is told whose networks give energies up to scales, shifts and a pair term."""

    per_type_energy_scales_trainable: bool = False  # start from per_type_energy_scales and train them
    per_type_energy_shifts_trainable: bool = False  # start from per_type_energy_shifts and train them
    pair_potential: Literal["zbl"] | None = None  # zbl: nuclear repulsion at short distances
    # dipole and polarizability beside the energy; needs features 1o and 2e: l_max of 2, two layers
    electric_field: bool = False

    def shape(self) -> dict[str, Any]:
        """See ModelConfig; cards of models without a field are those of earlier releases."""
        return {key: value for key, value in super().shape().items() if value or key != "electric_field"}


def make_card(config: ModelConfig) -> ModelCard:
    """The card of a potential built from `config`, in which no "auto" is left."""
    return ModelCard(
        architecture=config.name,
        config=config.shape(),
        type_names=tuple(config.type_names),
        r_max=config.r_max,
        per_edge_type_cutoff=resolve_cutoffs(config).per_edge_type,
        dtype=config.dtype,
        energy_only=config.energy_only,
    )


@contextmanager
def fresh_weights(seed: int) -> Generator[None, None, None]:
    """Weights drawn inside follow from `seed`, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def avg_num_neighbors(config: ModelConfig) -> Float[Tensor, " type"]:
    """Neighbors of an atom of each type, whose square root divides sums over them."""
    return _per_type(config, "avg_num_neighbors", default=1.0)


def scale_shift(config: NetworkConfig, num_heads: int | None = None) -> ScaleShift:
    """Scales and shifts of the energies of each type, or for each head of each type: at first alike."""

    def table(key: str, default: float) -> Tensor:
        values = _per_type(config, key, default=default)
        return values if num_heads is None else values.repeat(num_heads, 1)

    return ScaleShift(
        table("per_type_energy_scales", 1.0),
        table("per_type_energy_shifts", 0.0),
        (config.per_type_energy_scales_trainable, config.per_type_energy_shifts_trainable),
    )


def _per_type(config: ModelConfig, key: str, *, default: float) -> Float[Tensor, " type"]:
    value = getattr(config, key)
    assert value != "auto", f"{key} is not resolved"
    return per_type_tensor(value, tuple(config.type_names), default=default, key=f"model.{key}")


def pair_potential(config: NetworkConfig) -> ZBL | None:
    """The pair potential that `config` names."""
    return ZBL(tuple(config.type_names)) if config.pair_potential == "zbl" else None


def field_readout(config: NetworkConfig, irreps: Irreps) -> FieldReadout | None:
    """What reads dipole and polarizability off features of `irreps`, where the model knows a field.

    It is made last: other weights drawn from a seed are the same with and without.
    """
    if not config.electric_field:
        return None
    return FieldReadout(irreps, len(config.type_names), DTYPES[config.dtype], config.backend)
