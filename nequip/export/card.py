"""What a compiled potential says of itself: the card in its archive."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from nequip.model.card import DtypeName, ModelCard

FORMAT = 1

Target = Literal["ase", "lammps", "batch"]
TARGETS: tuple[Target, ...] = get_args(Target)

_ON_GRAPHS = ("positions", "types", "center", "neighbor", "row_ptr", "shift", "cell")
INPUTS: dict[Target, tuple[str, ...]] = {
    "lammps": ("edge_vector", "types", "center", "neighbor", "row_ptr"),
    "ase": _ON_GRAPHS,
    "batch": (*_ON_GRAPHS, "batch"),
}


def outputs(target: Target, *, energy_only: bool) -> tuple[str, ...]:
    """Names of what a compiled potential gives, in their order."""
    if target == "lammps":
        return ("atomic_energies", "edge_gradient")
    return ("energy", "atomic_energies", *(() if energy_only else ("forces", "stress", "virial")))


class KernelEntry(BaseModel):
    """Generated kernels in the archive; see README.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    spec: str
    scalar_bytes: int
    file: str
    source: str


class ArtefactCard(BaseModel):
    """Everything that must fit where the file is used; the table in README.md says what each key means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    target: Target
    device: Literal["cpu", "cuda"]
    dtype: DtypeName
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: ModelCard
    architecture: str
    type_names: tuple[str, ...]
    r_max: float  # Å
    per_edge_type_cutoff: tuple[tuple[float, ...], ...] | None
    units: dict[str, str]
    head: int
    energy_only: bool
    e3forge_version: str
    torch_version: str
    num_exchanges: int
    exchange_width: int
    backend: str
    instruction_set: str
    abi: str | None
    operators: str | None
    kernels: tuple[KernelEntry, ...]
    radial_table_error: float | None
