"""Checkpoints of a training run: written whole or not at all, read without running anything in them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from nequip.errors import CheckpointError
from nequip.model.checkpoint import write_atomically

FORMAT = "e3forge-training"
VERSION = 2


class AtomicCheckpointIO(CheckpointIO):
    """What Lightning saves and loads through: tensors and plain values only, with a format version."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Raises CheckpointError, with the file that was there left whole, where it cannot be written."""
        buffer = io.BytesIO()
        torch.save({**checkpoint, "format": FORMAT, "version": VERSION}, buffer)
        write_atomically(Path(path), buffer.getvalue())

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Everything to the CPU; what lives elsewhere is moved by its owner."""
        return load_checkpoint(path)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a training checkpoint.

    Raises:
        CheckpointError: for a file that is missing, damaged, of another kind or another version.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: check resume, or leave it out to start anew.")
    if path.suffix == ".nequip":
        raise CheckpointError(
            f"{path} holds a potential without the state of its training: resume from the .ckpt beside it."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason}): resume from another one."
        ) from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of a training run of e3forge.")
    if checkpoint["version"] != VERSION:
        raise CheckpointError(
            f"{path} has checkpoint version {checkpoint['version']}, this release reads version {VERSION}: "
            "resume it with the release that wrote it, or start anew from its .nequip file."
        )
    return checkpoint


def check_same(what: str, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises CheckpointError naming the first key in which two configurations differ."""
    for key in given:
        if isinstance(given[key], dict) and isinstance(saved.get(key), dict):
            check_same(what, saved[key], given[key])
        elif saved.get(key) != given[key]:
            raise CheckpointError(
                f"the checkpoint was saved with {key}={saved.get(key)!r} of the {what}, this run has "
                f"{given[key]!r}: resume with the configuration that was saved, or start anew without resume."
            )
