"""From a configuration to data: sources, splits, statistics, and a model configuration without "auto"."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from nequip.config.schema import DataConfig, RunConfig
from nequip.data.dataset import GraphDataset
from nequip.data.neighbors import Cutoffs, IntArray, TypeMapper
from nequip.data.progress import progress
from nequip.data.sources import FrameSource, LabelMap, locate, open_source, separate_isolated_atoms
from nequip.data.splits import Split, SplitSizes, fixed_split, random_split, split_by_group
from nequip.data.statistics import Statistics, compute_statistics
from nequip.errors import ConfigError, DataError
from nequip.model.cutoffs import resolve_cutoffs
from nequip.model.registry import ModelConfig

logger = logging.getLogger(__name__)

NO_DEVIATION = 1e-6  # eV/Å, eV: labels that vary less are alike up to rounding


@dataclass(frozen=True)
class PreparedData:
    """What training needs of the data; `val` and `test` may hold no frame."""

    type_names: tuple[str, ...]
    cutoffs: Cutoffs
    train: GraphDataset
    val: GraphDataset
    test: GraphDataset
    statistics: Statistics  # of the training frames
    isolated_atoms: dict[str, float]  # eV, by element; empty without such frames
    use_isolated_atoms: bool = False  # a file of them was named, so "auto" shifts are their energies

    @property
    def group_names(self) -> tuple[str, ...]:
        """What `Labels.group` points into."""
        return self.train.groups


@dataclass(frozen=True)
class _Part:
    source: FrameSource
    indices: IntArray


def prepare_data(config: RunConfig) -> PreparedData:
    """Open the files, split them, and take statistics of the training frames in one pass.

    Raises:
        DataError: for what is wrong with files, splits, elements and labels.
        ConfigError: for cutoffs that do not fit the types.
    """
    data = config.data
    cache_dir = Path(data.cache_dir).expanduser()
    parts, isolated = _open_parts(data, cache_dir)
    type_names = _type_names(config.model, parts)
    cutoffs = resolve_cutoffs(config.model.model_copy(update={"type_names": type_names}))
    groups = _group_names(parts)
    mapper = TypeMapper(type_names)
    train, val, test = (
        GraphDataset(
            part.source, part.indices, mapper, cutoffs, groups=groups, cache_dir=cache_dir / "neighbors"
        )
        for part in parts.values()
    )
    frames = progress(train.scan(), "statistics of the training frames", len(train))
    statistics = compute_statistics(frames, type_names, cutoffs)
    for name, dataset in (("validation", val), ("test", test)):
        # Writes the neighbor cache, and finds bad frames before training does.
        deque(progress(dataset.scan(), f"neighbors of the {name} frames", len(dataset)), maxlen=0)
    _check_labels(config, statistics, train.source)
    logger.info(
        "%d training, %d validation, %d test frames of %s; %.1f neighbors within %g Å.",
        *(len(train), len(val), len(test), ", ".join(type_names)),
        *(statistics.avg_num_neighbors, cutoffs.r_max),
    )
    named = data.isolated_atoms_file is not None
    return PreparedData(type_names, cutoffs, train, val, test, statistics, isolated, named)


def resolve_model_config(model: ModelConfig, prepared: PreparedData) -> ModelConfig:
    """`model` with every "auto" replaced by plain numbers from the statistics.

    Raises:
        ConfigError: for shifts from isolated atoms where there are none of some element.
    """
    statistics = prepared.statistics
    resolved: dict[str, Any] = {"type_names": prepared.type_names}
    if model.avg_num_neighbors == "auto":
        resolved["avg_num_neighbors"] = statistics.avg_num_neighbors
    if model.per_type_energy_scales == "auto":
        resolved["per_type_energy_scales"] = _scale(statistics)
    if model.per_type_energy_shifts == "auto" and not prepared.use_isolated_atoms:
        resolved["per_type_energy_shifts"] = statistics.per_type_energy_shifts or 0.0
    elif model.per_type_energy_shifts in ("auto", "isolated_atoms"):
        resolved["per_type_energy_shifts"] = _isolated_shifts(prepared)
    return model.model_copy(update=resolved)


def _scale(statistics: Statistics) -> float:
    """RMS of the forces, else the deviation of the energies, else 1."""
    deviations = (statistics.forces_rms or 0.0, statistics.energy_rms or 0.0)
    return next((value for value in deviations if value > NO_DEVIATION), 1.0)


def _isolated_shifts(prepared: PreparedData) -> dict[str, float]:
    missing = [name for name in prepared.type_names if name not in prepared.isolated_atoms]
    if missing:
        raise ConfigError(
            f"model.per_type_energy_shifts is 'isolated_atoms', but no isolated atom of {', '.join(missing)} "
            "with an energy was found: add frames of one atom with config_type=isolated_atom to the data, "
            "or name a file of them as data.isolated_atoms_file."
        )
    return {name: prepared.isolated_atoms[name] for name in prepared.type_names}


def _open_parts(data: DataConfig, cache_dir: Path) -> tuple[dict[str, _Part], dict[str, float]]:
    """Source and indices of train, val and test, and the energies of isolated atoms."""
    opened: dict[str, FrameSource] = {}

    def source(file: str) -> FrameSource:
        if file not in opened:
            opened[file] = open_source(locate(file, cache_dir), _label_map(data))
        return opened[file]

    main = source(data.file)
    bulk, lone = separate_isolated_atoms(main)
    energies = _isolated_energies(main, lone)
    if data.isolated_atoms_file is not None:
        # Such a file holds energies and nothing else that the run reads.
        extra = open_source(locate(data.isolated_atoms_file, cache_dir), LabelMap(energy=data.keys.energy))
        energies |= _isolated_energies(extra, np.flatnonzero(extra.num_atoms() == 1))
    split = _split(data, main, bulk)
    parts = {"train": _Part(main, split.train)}
    for name, file, indices in (("val", data.val_file, split.val), ("test", data.test_file, split.test)):
        own = None if file is None else source(file)
        parts[name] = _Part(main, indices) if own is None else _Part(own, separate_isolated_atoms(own)[0])
    return parts, energies


def _label_map(data: DataConfig) -> LabelMap:
    return LabelMap(**data.keys.model_dump(), stress_sign=1 if data.stress_sign == "ase" else -1)


def _isolated_energies(source: FrameSource, indices: IntArray) -> dict[str, float]:
    energies: dict[str, float] = {}
    for index in indices.tolist():
        frame = source[index]
        element = chemical_symbols[int(frame.numbers[0])]
        if frame.energy is not None and energies.setdefault(element, frame.energy) != frame.energy:
            raise DataError(
                f"{source.name} holds two isolated atoms of {element} with different energies "
                f"({energies[element]} and {frame.energy} eV): leave one of them out."
            )
    return energies


def _split(data: DataConfig, source: FrameSource, indices: IntArray) -> Split:
    config = data.split
    if config.kind == "fixed":
        if config.indices_file is None:
            if data.val_file is None:
                raise ConfigError(
                    "data.split.kind is 'fixed': give data.split.indices_file, or data.val_file "
                    "(and data.test_file)."
                )
            none = np.zeros(0, dtype=np.int64)
            return Split(indices, none, none)
        split = fixed_split(Path(config.indices_file).expanduser(), len(source))
        return Split(*(np.intersect1d(part, indices) for part in (split.train, split.val, split.test)))
    sizes = SplitSizes(
        train=config.train,
        val=0 if data.val_file else config.val,
        test=0 if data.test_file else config.test,
    )
    if config.kind == "by_group":
        groups = source.groups()
        return split_by_group(indices, [groups[index] for index in indices], sizes, config.seed)
    return random_split(indices, sizes, config.seed)


def _type_names(model: ModelConfig, parts: dict[str, _Part]) -> tuple[str, ...]:
    """Those of the configuration, or the elements of the training frames by atomic number."""
    elements = {name: part.source.elements(part.indices) for name, part in parts.items()}
    if model.type_names != "auto":
        return tuple(model.type_names)
    for name in ("val", "test"):
        unseen = sorted(elements[name] - elements["train"])
        if unseen:
            raise DataError(
                f"the {name} frames ({parts[name].source.name}) hold "
                f"{', '.join(chemical_symbols[number] for number in unseen)}, which no training frame does: "
                "add such frames to the training set, or leave these out."
            )
    return tuple(chemical_symbols[number] for number in sorted(elements["train"]))


def _group_names(parts: dict[str, _Part]) -> tuple[str, ...]:
    names: set[str] = set()
    for part in parts.values():
        groups = part.source.groups()
        names |= {groups[index] for index in part.indices.tolist()}
    return tuple(sorted(names)) or ("",)


def _check_labels(config: RunConfig, statistics: Statistics, source: FrameSource) -> None:
    """Raises DataError for a term of the loss without a single label to learn from."""
    loss = config.train.loss
    found = {
        "energy": statistics.num_energies,
        "forces": statistics.num_forces,
        "stress": statistics.num_stresses,
    }
    for label, count in found.items():
        term = getattr(loss, label)
        if term is not None and count == 0:
            raise DataError(
                f"train.loss.{label} is on, but no training frame of {source.name} has a label for it: "
                f"set data.keys.{label} to its key (present are {', '.join(source.label_keys()) or 'none'}), "
                f"or switch the term off with train.loss.{label}=null."
            )
