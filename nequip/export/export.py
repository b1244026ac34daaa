"""From a potential to the file that runs without Python: compile, pack, read back, compare."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._inductor.package import package_aoti

from nequip.errors import CheckpointError, ModelError
from nequip.export.archive import add_to_package
from nequip.export.card import INPUTS, ArtefactCard, KernelEntry, Target, outputs
from nequip.export.compile import Compiled, compile_potential
from nequip.export.verify import verify
from nequip.kernels.backend import choose
from nequip.kernels.native.compiler import instruction_set
from nequip.kernels.native.library import CSRC, abi, build_operators
from nequip.model.potential import Potential
from nequip.version import VERSION

SUFFIX = ".pt2"


@dataclass(frozen=True)
class ExportSettings:
    """What a potential is compiled for.

    Attributes:
        radial_table: largest error of tables in the place of radial networks, relative to the largest
            weight; None: in float32 the model's own, where there are such networks, in float64 no tables;
            0: no tables.
        head: which of a model's readouts is asked.
    """

    target: Target = "ase"
    radial_table: float | None = None
    head: int = 0


def export(potential: Potential, path: str | Path, settings: ExportSettings | None = None) -> ArtefactCard:
    """Compile `potential` for the device that it is on, and write the file once it is found right.

    Raises:
        ModelError: for a potential that cannot be compiled, or whose file computes something else.
        CheckpointError: when the file cannot be written.
    """
    settings, path = settings or ExportSettings(), Path(path)
    check_path(path)
    if settings.target == "lammps" and potential.card.energy_only:
        raise ModelError(
            "this potential predicts energies only, and LAMMPS needs forces: train one without energy_only."
        )
    _check_backend(potential)
    potential = deepcopy(potential).train().eval().requires_grad_(False)  # train() drops tables
    error = _tabulate(potential, settings.radial_table)
    with tempfile.TemporaryDirectory(prefix="nequip-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has much to say of its own inner parts
        compiled = compile_potential(potential, settings.target, settings.head, Path(folder))
        card = _card(potential, settings, compiled, error)
        package = Path(folder) / path.name
        package_aoti(str(package), compiled.files)
        add_to_package(package, card, _our_files(card, compiled))
        verify(package, card, potential)
        _move(package, path)
    return card


def check_path(path: Path) -> None:
    """Raises CheckpointError for a name that a compiled potential cannot have, or that is in no folder."""
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path} is no name for a compiled potential: let it end in .nequip{SUFFIX}.")
    if not path.absolute().parent.is_dir():
        raise CheckpointError(f"cannot write {path}: there is no folder {path.absolute().parent}.")


def _check_backend(potential: Potential) -> None:
    """Raises ModelError for kernels whose loops are Python's own: of a trace, they are those of its sizes."""
    device = next(potential.parameters()).device.type
    needed = "cpu" if device == "cpu" else "triton"
    if (chosen := choose(potential.backend, device)).name != needed:
        raise ModelError(
            f"backend {chosen.name} ({chosen.why}) is one that needs Python to run: compile with backend "
            f"{needed}."
        )


def _tabulate(potential: Potential, tolerance: float | None) -> float | None:
    """Tables where they are asked for, and in float32 where there can be any; their error."""
    if tolerance is None and potential.card.dtype == "float32":
        try:
            return potential.tabulate_radial()
        except ModelError:
            return None
    return potential.tabulate_radial(tolerance) if tolerance else None


def _card(
    potential: Potential, settings: ExportSettings, compiled: Compiled, table_error: float | None
) -> ArtefactCard:
    model, device = potential.card, next(potential.parameters()).device.type
    kernels = tuple(
        KernelEntry(
            kind=kernel.kind,
            spec=kernel.spec,
            scalar_bytes=kernel.scalar_bytes,
            file=f"kernels/{index}.so",
            source=f"kernels/{index}.cpp",
        )
        for index, kernel in enumerate(compiled.kernels)
    )
    return ArtefactCard(
        target=settings.target,
        device="cuda" if device == "cuda" else "cpu",
        dtype=model.dtype,
        inputs=INPUTS[settings.target],
        outputs=outputs(settings.target, energy_only=model.energy_only),
        model=model,
        architecture=model.architecture,
        type_names=model.type_names,
        r_max=model.r_max,
        per_edge_type_cutoff=model.per_edge_type_cutoff,
        units=model.units,
        head=settings.head,
        energy_only=model.energy_only,
        e3forge_version=VERSION,
        torch_version=torch.__version__.partition("+")[0],
        num_exchanges=len(compiled.exchange_widths),
        exchange_width=max(compiled.exchange_widths, default=0),
        backend=choose(potential.backend, device).name,
        instruction_set=instruction_set(),
        abi=abi() if compiled.uses_operators else None,
        operators="operators.so" if compiled.uses_operators else None,
        kernels=kernels,
        radial_table_error=table_error,
    )


def _our_files(card: ArtefactCard, compiled: Compiled) -> dict[str, bytes]:
    """Operators and kernels with their sources, by name in the folder of ours."""
    files: dict[str, bytes] = {}
    if card.operators is not None:
        files[card.operators] = build_operators().read_bytes()
        files |= {f"operators/{source.name}": source.read_bytes() for source in sorted(CSRC.iterdir())}
    for entry, kernel in zip(card.kernels, compiled.kernels, strict=True):
        files[entry.file] = kernel.path.read_bytes()
        files[entry.source] = kernel.path.with_suffix(".cpp").read_bytes()
    return files


def _move(source: Path, target: Path) -> None:
    """All of it, or what was there before."""
    unfinished = target.with_name(f".{target.name}.tmp")
    try:
        shutil.copyfile(source, unfinished)
        unfinished.replace(target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {target}: {error.strerror or error}.") from error
