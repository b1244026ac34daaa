"""Potentials on disk: one file of safetensors with a JSON card in its header.

Loading parses JSON and copies bytes; nothing in the file is ever executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import ValidationError

from nequip.errors import CheckpointError
from nequip.kernels.backend import Backend
from nequip.model.card import ModelCard, dtype_name
from nequip.model.potential import Potential
from nequip.model.registry import get_architecture
from nequip.version import VERSION

FORMAT = "nequip-potential"
FORMAT_VERSION = 1

# What turns the header of version n into that of version n + 1.
Migration = Callable[[dict[str, Any]], dict[str, Any]]
MIGRATIONS: dict[int, Migration] = {}


def save(potential: Potential, path: str | Path) -> None:
    """Write `potential` to `path`; what was there stays whole until the new file is.

    Raises:
        CheckpointError: when the file cannot be written (full disk, no such folder, ...).
    """
    path = Path(path)
    versions = {"e3forge": VERSION, "torch": torch.__version__}
    card = potential.card.model_copy(update={"versions": versions})
    header = {"format": FORMAT, "version": str(FORMAT_VERSION), "card": card.model_dump_json()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in potential.state_dict().items()}
    write_atomically(path, safetensors.torch.save(tensors, header))


def write_atomically(path: Path, content: bytes) -> None:
    """All of `content` under `path`, or the file that was there before.

    Raises:
        CheckpointError: when the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(
            f"cannot write {path}: {error.strerror or error}; a file that was there before is unharmed."
        ) from error


def read_card(path: str | Path) -> ModelCard:
    """The card of a saved potential, without its weights.

    Raises:
        CheckpointError: for a file that is not ours, cut short, or written by a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}; check the path.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a saved potential, or it was cut short ({error}); save it again."
        ) from error
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} holds tensors but no potential of ours; write it with potential.save()."
        )
    return _parse_card(header, path)


def _parse_card(header: dict[str, str], path: Path) -> ModelCard:
    try:
        version = int(header["version"])
        card = json.loads(header["card"])
        if version > FORMAT_VERSION:
            raise CheckpointError(
                f"{path} has format version {version}, and this e3forge {VERSION} reads up to "
                f"{FORMAT_VERSION}: install a newer e3forge."
            )
        for step in range(version, FORMAT_VERSION):
            card = MIGRATIONS[step](card)
        return ModelCard.model_validate(card)
    except (KeyError, ValueError, ValidationError) as error:
        raise CheckpointError(f"{path}: its card cannot be read ({error}).") from error


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    backend: Backend = "auto",
) -> Potential:
    """The potential in a file, in evaluation mode.

    Args:
        dtype: "float32" or "float64" to compute in; by default that of the card.
        backend: of the kernels; by default the fastest that runs on the device.

    Raises:
        CheckpointError: as `read_card`, and for weights that do not fit the card.
    """
    path = Path(path)
    potential = build_from_card(_with_dtype(read_card(path), dtype), backend)
    load_weights(potential, safetensors.torch.load_file(path), str(path))
    return potential.to(device).eval()


def convert(
    potential: Potential, dtype: str | torch.dtype | None = None, backend: Backend | None = None
) -> Potential:
    """A copy on the same device, in the same mode; what is None stays as it is."""
    copy = build_from_card(_with_dtype(potential.card, dtype), backend or potential.backend)
    copy.load_state_dict(potential.state_dict())
    device = next(potential.parameters()).device
    return copy.to(device).train(potential.training)


def _with_dtype(card: ModelCard, dtype: str | torch.dtype | None) -> ModelCard:
    name = card.dtype if dtype is None else dtype_name(dtype)
    return card.model_copy(update={"dtype": name, "config": {**card.config, "dtype": name}})


def build_from_card(card: ModelCard, backend: Backend = "auto") -> Potential:
    """A potential of the shape the card tells, with weights not yet loaded."""
    architecture = get_architecture(card.architecture)
    config = architecture.config.model_validate({**card.config, "backend": backend})
    potential = architecture.build(config)
    potential.card = card
    return potential


def load_weights(potential: Potential, tensors: dict[str, torch.Tensor], where: str) -> None:
    """Copy `tensors` into `potential`, every one and no other.

    Raises:
        CheckpointError: naming the tensors that are missing, too many or of another shape.
    """
    own = potential.state_dict()
    problems = [f"{key} is missing" for key in own if key not in tensors]
    problems += [f"{key} is not part of the model" for key in tensors if key not in own]
    problems += [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    if problems:
        raise CheckpointError(f"{where}: the weights do not fit the model: {'; '.join(problems[:5])}.")
    potential.load_state_dict(tensors)
