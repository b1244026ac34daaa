"""Potentials from files: ours, and those of every package whose weights we can take over."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from nequip.errors import CheckpointError, NequIPError
from nequip.interop.known_files import KNOWN, Facts
from nequip.interop.published import from_published
from nequip.interop.recognition import is_safetensors, read_published
from nequip.interop.verification import verify
from nequip.kernels.backend import Backend
from nequip.model import checkpoint
from nequip.model.card import ModelCard, Source
from nequip.model.potential import Potential

_LONGEST = 600  # letters of a message that holds what a file says


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    backend: Backend = "auto",
    head: str | None = None,
) -> Potential:
    """The potential in a file, in evaluation mode.

    The file is one of ours, or one of these, recognised by what is in it and whatever its name: a model of
    mace-torch (`.model`), a checkpoint of nequip or allegro (`.ckpt`, from 0.7 on), of SevenNet (`.pth`) or
    of Nequix (`.nqx`). Their packages are not needed, and nothing in a file is ever run. A file of another
    package is converted and checked each time that it is loaded; `nequip-convert` does so once.

    Args:
        dtype: "float32" or "float64" to compute in; by default that of the file.
        backend: of the kernels; by default the fastest that runs on the device.
        head: which readout to ask, of a file of another package that has several.

    Raises:
        CheckpointError: for a file that is damaged, of another kind, or made of parts that we do not have.
    """
    path = Path(path)
    if is_safetensors(path):
        if head is not None:
            raise CheckpointError(
                f"{path} is a converted file: its head was chosen by nequip-convert --head."
            )
        return checkpoint.load(path, device, dtype, backend)
    try:
        format_name, potential = _convert(path, dtype, backend, head)
        verify(potential.to(device))
    except NequIPError as error:
        raise CheckpointError(f"{path}: {_sentence(str(error).removeprefix(f'{path} '))}.") from error
    potential.card = potential.card.model_copy(update={"source": _source(path, format_name, head)})
    return potential


def read_card(path: str | Path) -> ModelCard:
    """The card of the potential in a file that `load` reads; raises as `load`."""
    path = Path(path)
    return checkpoint.read_card(path) if is_safetensors(path) else load(path, backend="reference").card


def _convert(
    path: Path, dtype: str | torch.dtype | None, backend: Backend, head: str | None
) -> tuple[str, Potential]:
    """What the file is, and its potential."""
    try:
        published = read_published(path)
        config = published.config
        if head is not None:
            if not config.get("heads") and not config.get("_modal_map"):
                raise CheckpointError(f"it has one readout alone: leave head={head!r} out")
            config = {**config, "head": head}
        return published.format, from_published(config, published.state, dtype, backend)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # A file that says what no model of its kind does: what this runs into is not foreseen one by one.
        reason = (str(error).splitlines() or [""])[0][:200]
        raise CheckpointError(
            f"its content is not that of a model that we know ({type(error).__name__}: {reason})"
        ) from error


def _sentence(words: str) -> str:
    """One line that a terminal can show: names in it may be those that a file gives."""
    shown = "".join(letter if letter.isprintable() else " " for letter in words).rstrip(".")
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} ..."


def _source(path: Path, format_name: str, head: str | None) -> Source:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = KNOWN.get(digest, Facts())
    return Source(
        file=path.name,
        sha256=digest,
        format=format_name,
        head=head or "",
        licence=facts.licence,
        functional=facts.functional,
    )
