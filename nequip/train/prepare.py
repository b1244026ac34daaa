"""From a configuration to data: sources, splits, statistics, and a model configuration without "auto"."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from nequip.config import CACHE_DIR
from nequip.config.schema import DataConfig, LabelKeys, PretrainedModel, ReplayConfig, RunConfig
from nequip.data.dataset import FrameRole, GraphDataset
from nequip.data.neighbors import Cutoffs, IntArray, TypeMapper
from nequip.data.sources import FrameSource, LabelMap, locate, open_source, separate_isolated_atoms
from nequip.data.splits import Split, SplitSizes, fixed_split, random_split, split_by_group
from nequip.data.statistics import Statistics, Tally
from nequip.errors import ConfigError, DataError
from nequip.model.card import ModelCard
from nequip.model.cutoffs import resolve_cutoffs
from nequip.model.rebuild import retyped_card
from nequip.model.registry import ModelConfig
from nequip.nn.per_type import per_type_tensor
from nequip.train import ranks

logger = logging.getLogger(__name__)

NAMES = {
    "train": "training",
    "val": "validation",
    "test": "test",
    "replay": "replay",
    "replay_val": "replay validation",
}
NO_DEVIATION = 1e-6  # eV/Å, eV: labels that vary less are alike up to rounding


@dataclass(frozen=True)
class Replay:
    """Older frames: those that are mixed into training, and those held out to see what is forgotten."""

    train: GraphDataset
    val: GraphDataset
    ratio: float  # frames in an epoch for each new one

    def in_role(self, role: FrameRole) -> Replay:
        """The same frames in another role."""
        return Replay(self.train.in_role(role), self.val.in_role(role), self.ratio)


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
    replay: Replay | None = None

    @property
    def group_names(self) -> tuple[str, ...]:
        """What `Labels.group` points into."""
        return self.train.groups


@dataclass(frozen=True)
class _Part:
    source: FrameSource
    indices: IntArray


def prepare_data(config: RunConfig, start: ModelCard | None = None) -> PreparedData:
    """Open the files, split them, and take statistics of the training frames in one pass.

    Args:
        start: card of the potential that training begins with, where it is not a fresh one.

    Raises:
        DataError: for what is wrong with files, splits, elements and labels.
        ConfigError: for cutoffs that do not fit the types.
    """
    data = config.data
    cache_dir = Path(data.cache_dir).expanduser()
    parts, isolated = _open_parts(data, cache_dir)
    parts |= {} if data.replay is None else _open_replay(data, data.replay, cache_dir)
    type_names, cutoffs = _types_and_cutoffs(config.model, parts, start)
    groups = _group_names(parts)
    mapper = TypeMapper(type_names)
    sets = {
        name: GraphDataset(
            part.source, part.indices, mapper, cutoffs, groups=groups, cache_dir=_neighbors_folder(part, data)
        )
        for name, part in parts.items()
    }
    train = sets["train"]
    tally = _scan(train, "statistics of the training frames", data.num_workers)
    statistics = tally.statistics(type_names, cutoffs)
    if statistics.singular and start is None:
        logger.warning("%s", statistics.singular)
    for name in sets.keys() - {"train"}:
        # Writes the neighbor cache, and finds bad frames before training does.
        _scan(sets[name], f"neighbors of the {NAMES[name]} frames", data.num_workers)
    _check_labels(config, statistics, train.source)
    logger.info(
        "%d training, %d validation, %d test frames of %s; %.1f neighbors within %g Å.",
        *(len(train), len(sets["val"]), len(sets["test"]), ", ".join(type_names)),
        *(statistics.avg_num_neighbors, cutoffs.r_max),
    )
    named = data.isolated_atoms_file is not None
    replay = data.replay and Replay(sets["replay"], sets["replay_val"], data.replay.ratio)
    return PreparedData(
        type_names, cutoffs, train, sets["val"], sets["test"], statistics, isolated, named, replay
    )


def _neighbors_folder(part: _Part, data: DataConfig) -> Path:
    """Neighbor lists lie beside the shards of a store, and go where it goes.

    Not where `data.cache_dir` names another place, or nothing can be written beside them.
    """
    store = Path(part.source.name)
    if store.is_dir() and data.cache_dir == CACHE_DIR and os.access(store, os.W_OK):
        return store / "neighbors"
    return Path(data.cache_dir).expanduser() / "neighbors"


def _scan(dataset: GraphDataset, label: str, num_workers: int) -> Tally:
    process = ranks.rank()
    return dataset.prepare(num_workers, label="" if process else label, process=process)


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
    model = model.model_copy(update=resolved)
    if getattr(model, "interaction_shift", None) == "auto":
        return model.model_copy(update={"interaction_shift": _mean_beside_shifts(model, statistics)})
    return model


def _mean_beside_shifts(model: ModelConfig, statistics: Statistics) -> float:
    """Energy of an atom that the shifts of the types do not account for, in the mean over all atoms."""
    given, fitted = model.per_type_energy_shifts, statistics.per_type_energy_shifts
    names, atoms = statistics.type_names, statistics.num_atoms_per_type
    if fitted is None:
        return 0.0
    assert not isinstance(given, str), "the shifts are not resolved"
    shifts = per_type_tensor(given, names, default=0.0, key="model.per_type_energy_shifts").tolist()
    rest = sum(atoms[name] * (fitted[name] - shift) for name, shift in zip(names, shifts, strict=True))
    return rest / statistics.num_atoms


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
            opened[file] = open_source(locate(file, cache_dir), _label_map(data, data.keys))
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


def _open_replay(data: DataConfig, replay: ReplayConfig, cache_dir: Path) -> dict[str, _Part]:
    """Older frames: those to train on, and those held out."""
    source = open_source(locate(replay.file, cache_dir), _label_map(data, replay.keys))
    indices, _ = separate_isolated_atoms(source)
    split = random_split(indices, SplitSizes(val=replay.val), data.split.seed)
    return {"replay": _Part(source, split.train), "replay_val": _Part(source, split.val)}


def _label_map(data: DataConfig, keys: LabelKeys) -> LabelMap:
    return LabelMap(**keys.model_dump(), stress_sign=1 if data.stress_sign == "ase" else -1)


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


def _types_and_cutoffs(
    model: ModelConfig | PretrainedModel, parts: dict[str, _Part], start: ModelCard | None
) -> tuple[tuple[str, ...], Cutoffs]:
    """Those of the configuration, or what the data and the potential to start from bring along."""
    known = () if start is None else start.type_names
    type_names = tuple(model.type_names) if model.type_names != "auto" else _all_elements(parts, known)
    TypeMapper(type_names)  # raises for what is no element
    if isinstance(model, ModelConfig):
        return type_names, resolve_cutoffs(model.model_copy(update={"type_names": type_names}))
    assert start is not None
    card = retyped_card(start, type_names)
    return type_names, Cutoffs(card.r_max, card.per_edge_type_cutoff)


def _all_elements(parts: dict[str, _Part], known: tuple[str, ...]) -> tuple[str, ...]:
    """The elements that are known, and after them those of the training frames by atomic number."""
    elements = {name: part.source.elements(part.indices) for name, part in parts.items()}
    trained = elements["train"] | {chemical_symbols.index(name) for name in known}
    for name in elements.keys() - {"train"}:
        unseen = sorted(elements[name] - trained)
        if unseen:
            raise DataError(
                f"the {NAMES[name]} frames ({parts[name].source.name}) hold "
                f"{', '.join(chemical_symbols[number] for number in unseen)}, which no training frame does: "
                "add such frames to the training set, or leave these out."
            )
    new = [chemical_symbols[number] for number in sorted(elements["train"])]
    return (*known, *(name for name in new if name not in known))


def _group_names(parts: dict[str, _Part]) -> tuple[str, ...]:
    names = set().union(*(part.source.group_names(part.indices) for part in parts.values()))
    return tuple(sorted(names)) or ("",)


def _check_labels(config: RunConfig, statistics: Statistics, source: FrameSource) -> None:
    """Raises DataError for a term of the loss without a single label to learn from."""
    loss = config.train.loss
    found = {
        "energy": statistics.num_energies,
        "forces": statistics.num_forces,
        "stress": statistics.num_stresses,
        "hessian": statistics.num_hessians,
        "force_constants": statistics.num_force_constants,
        "dipole": statistics.num_dipoles,
        "polarizability": statistics.num_polarizabilities,
        "born_charges": statistics.num_born_charges,
    }
    if config.train.dens is not None and statistics.num_forces == 0:
        raise DataError(
            f"train.dens needs forces, but no training frame of {source.name} has a label for them: set "
            "data.keys.forces to its key, or switch denoising off with train.dens=null."
        )
    for label, count in found.items():
        term = getattr(loss, label)
        if term is not None and count == 0 and label == "force_constants":
            raise DataError(
                f"train.loss.force_constants is on, but no training frame of {source.name} has any: let a "
                "pattern in data.file match phonopy.yaml files too, or set train.loss.force_constants=null."
            )
        if term is not None and count == 0:
            raise DataError(
                f"train.loss.{label} is on, but no training frame of {source.name} has a label for it: "
                f"set data.keys.{label} to its key (present are {', '.join(source.label_keys()) or 'none'}), "
                f"or switch the term off with train.loss.{label}=null."
            )
