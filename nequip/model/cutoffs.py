"""Cutoffs of a model: one global distance, and one for each ordered pair of types where wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nequip.data.neighbors import Cutoffs
from nequip.errors import ConfigError, did_you_mean
from nequip.model.registry import ModelConfig


def resolve_cutoffs(config: ModelConfig) -> Cutoffs:
    """The cutoffs that `config` asks for, in Å; `type_names` must be resolved.

    `per_edge_type_cutoff` maps a center to one number for all its neighbors or to a number for each
    neighbor; pairs left out keep `r_max`.

    Raises:
        ConfigError: for unknown types and for distances that are not in (0, r_max].
    """
    if config.per_edge_type_cutoff is None:
        return Cutoffs(config.r_max)
    if config.type_names == "auto":
        raise ConfigError("model.per_edge_type_cutoff needs model.type_names: resolve them first.")
    return Cutoffs(config.r_max, _cutoff_table(config.type_names, config.r_max, config.per_edge_type_cutoff))


def _cutoff_table(
    type_names: Sequence[str], r_max: float, given: Mapping[str, float | Mapping[str, float]]
) -> tuple[tuple[float, ...], ...]:
    table = {center: dict.fromkeys(type_names, r_max) for center in type_names}
    for center, value in given.items():
        _check_type(center, type_names, "per_edge_type_cutoff")
        row = value if isinstance(value, Mapping) else dict.fromkeys(type_names, value)
        for neighbor, distance in row.items():
            where = f"per_edge_type_cutoff.{center}"
            _check_type(neighbor, type_names, where)
            if not 0 < distance <= r_max:
                raise ConfigError(
                    f"model.{where}.{neighbor} is {distance} Å, but must lie above 0 and "
                    f"not above model.r_max = {r_max} Å."
                )
            table[center][neighbor] = float(distance)
    return tuple(tuple(row[name] for name in type_names) for row in table.values())


def _check_type(name: str, type_names: Sequence[str], where: str) -> None:
    if name not in type_names:
        raise ConfigError(
            f"model.{where} names the type {name!r}{did_you_mean(name, type_names)}, "
            f"but the model has only {', '.join(type_names)}."
        )
