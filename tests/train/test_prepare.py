"""From a configuration to data sets, statistics, and a model configuration without "auto"."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mace_ext.config import MACEConfig
from nequip.config.schema import DataConfig, RunConfig
from nequip.errors import ConfigError, DataError
from nequip.model.registry import ModelConfig
from nequip.train.prepare import PreparedData, prepare_data, resolve_model_config

SHIFTS = {"H": -13.0, "C": -1029.0, "O": -2041.0}


def molecule(symbols: str, seed: int, labels=("energy", "forces"), **info: Any) -> Atoms:
    """Atoms on a line 1 Å apart, the energy a sum over atoms, forces of RMS about 2."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(symbols, info=info)
    atoms.positions = np.arange(len(atoms))[:, None] * [1.0, 0, 0] + rng.normal(0, 0.01, (len(atoms), 3))
    results = {
        "energy": sum(SHIFTS[symbol] for symbol in atoms.symbols),
        "forces": rng.normal(0, 2, (len(atoms), 3)),
    }
    atoms.calc = SinglePointCalculator(atoms, **{label: results[label] for label in labels})
    return atoms


def molecules(**options: Any) -> list[Atoms]:
    kinds = ["CH4", "OH2", "CO", "CH3OH"]
    return [
        molecule(kinds[seed % 4], seed, config_type=["cold", "hot", "dense"][seed % 3], **options)
        for seed in range(24)
    ]


@pytest.fixture
def run(tmp_path):
    """A function that writes frames and gives a configuration for them."""

    def configure(frames: list[Atoms], model: dict | None = None, train: dict | None = None, **data: Any):
        path = tmp_path / "all.xyz"
        write(path, frames, format="extxyz")
        data_config = DataConfig(file=str(path), cache_dir=str(tmp_path / "cache"), **data)
        return RunConfig(data=data_config, model=ModelConfig(**model or {}), train=train or {})

    return configure


def resolved(config: RunConfig) -> ModelConfig:
    return resolve_model_config(config.model, prepare_data(config))


def other_file(tmp_path: Path, frames: list[Atoms]) -> str:
    write(tmp_path / "other.xyz", frames, format="extxyz")
    return str(tmp_path / "other.xyz")


def energies(prepared: PreparedData, part: str) -> list[float]:
    dataset = getattr(prepared, part)
    return [dataset[position].labels.energy.item() for position in range(len(dataset))]


def test_a_file_is_split_and_its_elements_are_the_types(run):
    prepared = prepare_data(run(molecules(), split={"val": 4, "test": 0.25}))
    assert prepared.type_names == ("H", "C", "O")
    assert (len(prepared.train), len(prepared.val), len(prepared.test)) == (14, 4, 6)
    assert prepared.statistics.num_frames == 14
    assert prepared.group_names == ("cold", "dense", "hot")


def test_auto_becomes_numbers_of_the_training_frames(run):
    config = run(molecules())
    prepared = prepare_data(config)
    model = resolve_model_config(config.model, prepared)
    assert model.type_names == ("H", "C", "O")
    assert model.avg_num_neighbors == prepared.statistics.avg_num_neighbors
    assert model.per_type_energy_scales == prepared.statistics.forces_rms == pytest.approx(2.0, rel=0.2)
    assert model.per_type_energy_shifts == pytest.approx(SHIFTS)
    json.dumps(model.model_dump())


def test_values_that_are_given_stay(run):
    given = {
        "type_names": ("O", "C", "H"),
        "avg_num_neighbors": 7.0,
        "per_type_energy_scales": 1.5,
        "per_type_energy_shifts": None,
    }
    model = resolved(run(molecules(), model=given))
    assert model == ModelConfig(**given)


def test_cutoffs_follow_the_types(run):
    prepared = prepare_data(run(molecules(), model={"r_max": 3.0, "per_edge_type_cutoff": {"C": {"H": 2.0}}}))
    assert prepared.train.cutoffs.per_edge_type == ((3.0, 3.0, 3.0), (2.0, 3.0, 3.0), (3.0, 3.0, 3.0))
    assert prepared.cutoffs == prepared.train.cutoffs


def test_a_second_run_finds_its_neighbor_lists(run, tmp_path):
    config = run(molecules())
    first = prepare_data(config)
    before = sorted((tmp_path / "cache" / "neighbors").iterdir())
    second = prepare_data(config)
    assert sorted((tmp_path / "cache" / "neighbors").iterdir()) == before
    assert first.statistics == second.statistics


def test_energies_alone_give_the_scale(run):
    frames = molecules(labels=("energy",))
    for number, atoms in enumerate(frames):
        atoms.calc.results["energy"] += 0.3 * np.sqrt(len(atoms)) * (-1) ** (number // 4)
    config = run(frames, train={"loss": {"forces": None}}, split={"val": 0})
    assert resolved(config).per_type_energy_scales == pytest.approx(0.3, rel=0.1)


def test_without_any_deviation_the_scale_is_one(run):
    config = run([molecule("CO", 0, labels=("energy",))] * 3, train={"loss": {"forces": None}})
    assert resolved(config).per_type_energy_scales == pytest.approx(1.0)


def test_one_composition_is_told_in_a_line(run, caplog):
    with caplog.at_level(logging.WARNING):
        model = resolved(run([molecule("CO", seed) for seed in range(5)]))
    assert model.per_type_energy_shifts == pytest.approx({"C": -1535.0, "O": -1535.0})
    assert "do not tell the energies of 2 types apart" in caplog.text


ISOLATED = [molecule(symbol, 0, ("energy",), config_type="isolated_atom") for symbol in SHIFTS]


def test_isolated_atoms_are_taken_out_and_give_the_shifts(run):
    config = run(
        [*ISOLATED, *molecules()], model={"per_type_energy_shifts": "isolated_atoms"}, split={"val": 4}
    )
    prepared = prepare_data(config)
    assert (len(prepared.train), len(prepared.val)) == (20, 4)
    assert "isolated_atom" not in prepared.group_names
    assert resolve_model_config(config.model, prepared).per_type_energy_shifts == SHIFTS


@pytest.mark.parametrize("shifts", ["isolated_atoms", "auto"])
def test_isolated_atoms_may_lie_in_a_file_of_their_own(run, tmp_path, shifts):
    path = other_file(tmp_path, [molecule(symbol, 0, ("energy",)) for symbol in SHIFTS])
    config = run(
        molecules(),
        model={"per_type_energy_shifts": shifts},
        isolated_atoms_file=path,
        keys={"forces": "forces"},
    )
    assert resolved(config).per_type_energy_shifts == SHIFTS


def test_the_interaction_shift_is_what_the_shifts_leave_of_the_mean(run):
    config = run(molecules())
    shifts = {name: shift + 1.5 for name, shift in SHIFTS.items()}
    given, fitted = MACEConfig(per_type_energy_shifts=shifts), MACEConfig()
    prepared = prepare_data(config)
    assert resolve_model_config(given, prepared).interaction_shift == pytest.approx(-1.5)
    assert resolve_model_config(fitted, prepared).interaction_shift == pytest.approx(0, abs=1e-9)


def test_isolated_atoms_that_are_missing_are_named(run):
    config = run([*ISOLATED[:2], *molecules()], model={"per_type_energy_shifts": "isolated_atoms"})
    with pytest.raises(ConfigError, match=r"no isolated atom of O with an energy.*isolated_atoms_file"):
        resolved(config)


def test_isolated_atoms_that_disagree_are_refused(run):
    twin = molecule("H", 0, ("energy",), config_type="isolated_atom")
    twin.calc.results["energy"] = -12.0
    with pytest.raises(DataError, match="two isolated atoms of H with different energies"):
        prepare_data(run([*ISOLATED, twin, *molecules()]))


def test_groups_go_together(run):
    prepared = prepare_data(run(molecules(), split={"kind": "by_group", "val": 8}))
    found = {prepared.val.groups[int(prepared.val[i].labels.group)] for i in range(len(prepared.val))}
    assert len(found) == 1
    assert len(prepared.val) == 8


def test_files_of_their_own_for_validation_and_test(run, tmp_path):
    path = other_file(tmp_path, molecules()[:5])
    prepared = prepare_data(run(molecules(), val_file=path, test_file=path))
    assert (len(prepared.train), len(prepared.val), len(prepared.test)) == (24, 5, 5)


def test_a_fixed_split_follows_its_file_without_isolated_atoms(run, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"train": [0, 3, 4], "val": [6, 5]}))
    split = {"kind": "fixed", "indices_file": str(tmp_path / "split.json")}
    prepared = prepare_data(run([*ISOLATED, *molecules()], split=split))
    assert prepared.train.indices.tolist() == [3, 4]
    assert prepared.val.indices.tolist() == [5, 6]


def test_a_fixed_split_needs_its_indices(run):
    with pytest.raises(ConfigError, match=r"give data\.split\.indices_file"):
        prepare_data(run(molecules(), split={"kind": "fixed"}))


def test_a_store_is_prepared_like_the_file_it_was_made_of(run, tmp_path):
    from nequip.data.convert import convert

    config = run(molecules())
    convert(config.data.file, tmp_path / "store", shard_size=10)
    stored = config.model_copy(
        update={"data": config.data.model_copy(update={"file": str(tmp_path / "store")})}
    )
    first, second = prepare_data(config), prepare_data(stored)
    assert first.statistics == second.statistics
    assert energies(first, "val") == energies(second, "val")


# What cannot be trained on is said before training starts.


def test_elements_that_only_validation_has_are_named(run, tmp_path):
    path = other_file(tmp_path, molecules())
    with pytest.raises(
        DataError, match=r"the validation frames .*other\.xyz\) hold O, which no training frame does"
    ):
        prepare_data(run([molecule("CH4", seed) for seed in range(4)], val_file=path))


def test_elements_beyond_the_types_given_are_named(run):
    with pytest.raises(DataError, match=r"all\.xyz, frame \d+ holds O, but the model knows only H, C"):
        prepare_data(run(molecules(), model={"type_names": ("H", "C")}))


@pytest.mark.parametrize("label", ["energy", "forces"])
def test_a_label_of_the_loss_that_is_missing_everywhere_is_named(run, label):
    (other,) = {"energy", "forces"} - {label}
    with pytest.raises(DataError, match=rf"train\.loss\.{label} is on.*present are.*{other}.*{label}=null"):
        prepare_data(run(molecules(labels=(other,))))


def test_stress_is_asked_for_only_where_the_loss_wants_it(run):
    with pytest.raises(DataError, match=r"train\.loss\.stress is on"):
        prepare_data(run(molecules(), train={"loss": {"stress": {}}}))


def test_a_cutoff_without_neighbors_is_told_with_the_shortest_distance(run):
    with pytest.raises(DataError, match=r"r_max = 0\.5 Å; the shortest distance found is 0\.9\d\d Å"):
        prepare_data(run(molecules(), model={"r_max": 0.5}))


def test_a_bad_validation_frame_is_found_before_training(run, tmp_path):
    bad = molecule("CO", 0)
    bad.positions[1] = bad.positions[0]
    with pytest.raises(DataError, match=r"other\.xyz, frame 1: atoms 0 and 1 overlap"):
        prepare_data(run(molecules(), val_file=other_file(tmp_path, [molecule("CO", 1), bad])))


def test_a_named_set_is_resolved(run, tmp_path):
    config = run(molecules())
    named = config.model_copy(update={"data": config.data.model_copy(update={"file": "set:no_such_set"})})
    with pytest.raises(DataError, match="no_such_set"):
        prepare_data(named)
