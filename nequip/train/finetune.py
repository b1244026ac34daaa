"""From a potential in a file to one that is ready to learn new data.

What it learned stays: cutoffs, scales and numbers of neighbors are its own, whatever the new frames have.
New elements start as copies of the most similar ones, a new readout as a copy of the first. Energies of
another method differ by a constant for each element above all: the shifts take that up before training.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nequip.config.schema import PretrainedModel, TrainConfig
from nequip.data.frame import FloatArray
from nequip.data.neighbors import IntArray
from nequip.data.statistics import EnergyFit
from nequip.errors import ConfigError, did_you_mean
from nequip.interop import load
from nequip.model.card import ModelCard, TrainingRecord
from nequip.model.potential import Potential
from nequip.model.rebuild import rebuild
from nequip.train.evaluation import evaluate
from nequip.train.freezing import freeze
from nequip.train.prepare import PreparedData
from nequip.typing import Float, Tensor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """The potential that training begins with, as it lies in its file."""

    config: PretrainedModel
    potential: Potential
    sha256: str  # of the file

    @property
    def heads(self) -> tuple[str, ...]:
        """Readouts of the potential in training: the one that the new frames train comes first."""
        own, trained = self.potential.heads, self.config.head
        return own if trained is None else (trained, *(name for name in own if name != trained))


@dataclass(frozen=True)
class Adapted:
    """A potential for the elements and energies of new data."""

    potential: Potential
    config: PretrainedModel  # with every "auto" replaced
    shift_change: Float[Tensor, " type"]  # eV: what was added to the energy of every atom, of its first head


def load_start(config: PretrainedModel, train: TrainConfig) -> Start:
    """The potential in `model.file`.

    Raises:
        CheckpointError: for a file that cannot be read.
        ConfigError: for a head where there is but one readout, for forces of a model that has none, and for
            weights to freeze that it does not have.
    """
    path = Path(config.file).expanduser()
    potential = load(path, dtype=config.dtype, backend=config.backend)
    card = potential.card
    if config.head is not None and not card.config.get("heads"):
        raise ConfigError(
            f"model.head: {card.architecture} has one readout alone: leave model.head out, and new and "
            "replay frames train the same one."
        )
    if card.energy_only and (train.loss.forces or train.loss.stress):
        raise ConfigError(
            f"{path} predicts energies alone: set train.loss.forces=null train.loss.stress=null, or take "
            "another potential."
        )
    freeze(potential, train.freeze)  # as every copy of it will be: mistakes show before the data is read
    return Start(config, potential, hashlib.sha256(path.read_bytes()).hexdigest())


def adapt(start: Start, data: PreparedData, device: str | torch.device = "cpu") -> Adapted:
    """Make room for new elements and a new head, and fit the energy shifts; `device` computes energies.

    Raises:
        ConfigError: for shifts of elements that are not there, and for isolated atoms that are missing.
        ModelError: for an architecture that cannot take new elements.
    """
    potential = rebuild(start.potential, data.type_names, start.heads)
    before = potential.energy_shifts[0].detach().double().clone()
    after = _new_shifts(start.config, potential.to(device), data, before)
    potential = potential.to("cpu").train()
    with torch.no_grad():
        potential.energy_shifts[0].copy_(after)
    named = dict(zip(data.type_names, after.tolist(), strict=True))
    record = TrainingRecord(finetuned_from=start.config.file, finetuned_from_sha256=start.sha256)
    potential.card = _new_card(potential.card, named, record)
    resolved = {"type_names": data.type_names, "per_type_energy_shifts": named}
    return Adapted(potential, start.config.model_copy(update=resolved), after - before)


def _new_card(card: ModelCard, shifts: dict[str, float], record: TrainingRecord) -> ModelCard:
    # What the new labels were computed with is not known.
    source = card.source and card.source.model_copy(update={"functional": ""})
    config = {**card.config, "per_type_energy_shifts": shifts}
    if "interaction_shift" in config:
        config["interaction_shift"] = 0.0  # the shifts are whole
    return card.model_copy(update={"config": config, "training": record, "source": source})


def _new_shifts(
    config: PretrainedModel, potential: Potential, data: PreparedData, before: Float[Tensor, " type"]
) -> Float[Tensor, " type"]:
    """As they are or as given; energies of isolated atoms and what is left of the mean, or least squares.

    Least squares of `E - E_predicted ≈ Σ_t N_t δ_t` over the training frames; δ is 0 for types not in them.
    """
    given = config.per_type_energy_shifts
    if given == "keep":
        return before
    if isinstance(given, Mapping):
        return _replaced(before, given, data.type_names)
    isolated = _isolated_atoms(data) if given == "isolated_atoms" or data.use_isolated_atoms else None
    counts, residual = _residuals(potential, data)
    if isolated is not None:
        change = _replaced(before, isolated, data.type_names) - before
        left = (residual - counts @ change.numpy()).sum() / max(counts.sum(), 1)
        return _replaced(before, {name: energy + left for name, energy in isolated.items()}, data.type_names)
    fit = EnergyFit(len(data.type_names))
    for row, energy in zip(counts, residual.tolist(), strict=True):
        fit.add(row, energy)
    shifts, singular = fit.solve(data.type_names, what="changes of shifts")
    if singular:
        logger.warning("%s", singular)
    return before if shifts is None else before + torch.tensor(shifts)


def _replaced(
    before: Float[Tensor, " type"], given: Mapping[str, float], type_names: tuple[str, ...]
) -> Float[Tensor, " type"]:
    for name in given:
        if name not in type_names:
            raise ConfigError(
                f"model.per_type_energy_shifts: no type is called {name!r}{did_you_mean(name, type_names)}."
            )
    return before.new_tensor(
        [given.get(name, old) for name, old in zip(type_names, before.tolist(), strict=True)]
    )


def _isolated_atoms(data: PreparedData) -> dict[str, float]:
    """Their energies, of every element in the training frames."""
    present = [name for name, count in data.statistics.num_atoms_per_type.items() if count]
    missing = [name for name in present if name not in data.isolated_atoms]
    if missing:
        raise ConfigError(
            f"model.per_type_energy_shifts takes isolated atoms, but none of {', '.join(missing)} with an "
            "energy was found: add frames of one atom with config_type=isolated_atom to the data, or name a "
            "file of them as data.isolated_atoms_file."
        )
    return {name: energy for name, energy in data.isolated_atoms.items() if name in data.type_names}


def _residuals(potential: Potential, data: PreparedData) -> tuple[IntArray, FloatArray]:
    """Atoms of each type [frame, type], and `E - E_predicted`, of the training frames with an energy."""
    predict_derivatives, potential.predict_derivatives = potential.predict_derivatives, False
    found = evaluate(potential, data.train, progress="energies of the training frames")
    potential.predict_derivatives = predict_derivatives
    residual = found.reference.energy - found.predicted.energy
    labelled = np.isfinite(residual)
    counts = np.zeros((found.num_frames, len(data.type_names)), dtype=np.int64)
    np.add.at(counts, (np.repeat(np.arange(found.num_frames), found.num_atoms), found.types), 1)
    return counts[labelled], residual[labelled]
