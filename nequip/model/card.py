"""What a saved potential says of itself: a JSON card that travels with the weights."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from nequip.errors import ModelError

DtypeName = Literal["float32", "float64"]


def dtype_name(dtype: str | torch.dtype) -> DtypeName:
    """ "float32" or "float64" of a name or of torch's own object.

    Raises:
        ModelError: for any other.
    """
    name = str(dtype).removeprefix("torch.")
    if name == "float32" or name == "float64":
        return name
    raise ModelError(f"a potential computes in float32 or float64, not in {name!r}.")


class TrainingRecord(BaseModel):
    """Where the weights come from, and how large their errors were."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = ""  # file or named set
    num_train: int = 0  # frames
    num_val: int = 0
    finetuned_from: str = ""  # file of the potential that training began with; empty: from random weights
    finetuned_from_sha256: str = ""  # of that file
    epochs: int = 0
    weights: Literal["raw", "ema"] = "raw"
    errors: dict[str, float] = Field(default_factory=dict)  # "val/forces_mae": eV/Å, ...


class Source(BaseModel):
    """The file of another package that the weights were converted from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str  # its name
    sha256: str  # of its bytes
    format: str  # the package that wrote it, and what it calls such a file
    head: str = ""  # which of several readouts was chosen
    licence: str = ""  # of the weights, where it is known
    functional: str = ""  # of the calculations that they were trained on, where it is known


class ModelCard(BaseModel):
    """Everything needed to build the model again and to use its numbers rightly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str  # name in the registry
    config: dict[str, Any]  # the architecture's own configuration, statistics resolved
    type_names: tuple[str, ...]  # chemical symbols, in the order of type indices
    r_max: float  # Å
    per_edge_type_cutoff: tuple[tuple[float, ...], ...] | None = None  # Å, [center][neighbor]
    dtype: DtypeName = "float32"
    energy_only: bool = False  # no forces, no stress
    units: dict[str, str] = Field(default_factory=lambda: {"length": "angstrom", "energy": "eV"})
    versions: dict[str, str] = Field(default_factory=dict)  # e3forge and torch that wrote the file
    training: TrainingRecord | None = None
    source: Source | None = None  # of converted weights
