"""Architectures by name, found through the entry-point group `nequip.models` at first lookup."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from nequip.errors import ConfigError, did_you_mean
from nequip.kernels.backend import Backend
from nequip.model.card import DtypeName
from nequip.model.potential import Potential

GROUP = "nequip.models"


class ModelConfig(BaseModel, frozen=True):
    """What every architecture is told; each adds its own keys in a subclass.

    Values left at "auto" are filled in from the statistics of the training set before the model
    is built; the resolved configuration is saved with the run and in the card.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = "nequip"  # of the architecture
    # chemical symbols; auto: the elements of the training frames
    type_names: tuple[str, ...] | Literal["auto"] = "auto"
    r_max: float = Field(5.0, gt=0)  # Å
    per_edge_type_cutoff: dict[str, float | dict[str, float]] | None = None  # Å, center -> neighbor
    # its square root divides sums over neighbors; one number, or one for each type; auto: measured
    avg_num_neighbors: PositiveFloat | dict[str, PositiveFloat] | Literal["auto"] = "auto"
    # eV; auto: RMS of the forces (as a number), or of the energies where there are none; None: 1
    per_type_energy_scales: float | dict[str, float] | Literal["auto"] | None = "auto"
    # eV; auto: least squares; isolated_atoms: their energies; None: 0
    per_type_energy_shifts: float | dict[str, float] | Literal["auto", "isolated_atoms"] | None = "auto"
    energy_only: bool = False  # no forces, no stress
    dtype: DtypeName = "float32"  # of weights and features; energies are summed in float64
    seed: int = 0  # of the initial weights
    backend: Backend = "auto"  # of the kernels; auto: the fastest that runs on the device

    def shape(self) -> dict[str, Any]:
        """What a card keeps: everything but the backend, which any machine may choose anew."""
        return self.model_dump(mode="json", exclude={"backend"})


@dataclass(frozen=True)
class Architecture:
    """A name, the schema of its configuration, and how to build it."""

    name: str
    config: type[ModelConfig]
    build: Callable[[Any], Potential]


def architectures() -> list[str]:
    """Names of every architecture installed."""
    return sorted(_installed(tuple(sys.path)))


@cache
def _installed(path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Entry points by name; reading them scans every package on `path`, so it is done once."""
    return {point.name: point for point in entry_points(group=GROUP)}


def get_architecture(name: str) -> Architecture:
    """Raises ConfigError for a name that no installed package provides."""
    points = _installed(tuple(sys.path))
    if name in points:
        return points[name].load()
    raise ConfigError(
        f"no architecture is called {name!r}{did_you_mean(name, architectures())}: "
        f"installed are {', '.join(architectures())}."
    )


def build_potential(config: ModelConfig) -> Potential:
    """A potential with fresh weights, seeded by `config.seed`."""
    return get_architecture(config.name).build(config)
