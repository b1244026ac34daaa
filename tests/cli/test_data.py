"""`nequip-data`, as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from nequip.cli.main import data
from nequip.data.sources import open_source

METHANE = 0.64 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])


def molecules() -> list[Atoms]:
    """Twelve methane-like frames in two groups, forces missing in one, and an isolated atom."""
    rng = np.random.default_rng(0)
    frames = []
    for number in range(12):
        atoms = Atoms("CH4", rng.normal(0, 0.05, (5, 3)) + METHANE)
        results = {"energy": -40.0 + number}
        if number != 7:
            results["forces"] = rng.normal(size=(5, 3))
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info.update(config_type="cold" if number < 8 else "hot", note=number)
        frames.append(atoms)
    lone = Atoms("H", info={"config_type": "isolated_atom"})
    lone.calc = SinglePointCalculator(lone, energy=-13.6)
    return [*frames, lone]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `all.xyz`."""
    monkeypatch.chdir(tmp_path)
    write("all.xyz", molecules(), format="extxyz")
    return tmp_path


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert data(argv) == 0
    return capsys.readouterr().out


def complaint(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert data(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


def test_inspect_tells_what_a_file_holds(capsys):
    text = output(capsys, "inspect", "all.xyz")
    for line in (
        "frames                  13, 61 atoms, 1 to 5 in a frame",
        "elements                H (49), C (12)",
        "compositions            CH4 (12), H (1)",
        "cells                   no cell (13)",
        "groups                  cold (8), hot (4), isolated_atom (1)",
        "energy                  -13.6000 to -5.8000 eV/atom",
        "stress                  missing everywhere",
        "keys seen               config_type, energy, forces, note",
    ):
        assert line in text
    assert "missing in 2 frames" in next(line for line in text.splitlines() if line.startswith("forces"))
    assert "(all.xyz, frame " in next(line for line in text.splitlines() if line.startswith("shortest"))


def test_inspect_goes_on_after_a_bad_frame(capsys):
    frames = molecules()
    frames[3].positions[1] = frames[3].positions[0]
    write("bad.xyz", frames, format="extxyz")
    text = output(capsys, "inspect", "bad.xyz")
    assert "problems                1 of 13 frames" in text
    assert "bad.xyz, frame 3: atoms 0 and 1 overlap" in text


def test_inspect_reads_json_of_itself(capsys):
    found = json.loads(output(capsys, "inspect", "all.xyz", "--json"))
    assert found["frames"] == 13
    assert found["labels"] == {"energy": 13, "forces": 11}
    assert found["energy_per_atom"]["high"] == -5.8


def test_inspect_of_a_lone_atom_knows_no_distance(capsys):
    write("lone.xyz", molecules()[-1], format="extxyz")
    assert "shortest distance       none" in output(capsys, "inspect", "lone.xyz")
    assert json.loads(output(capsys, "inspect", "lone.xyz", "--json"))["shortest_distance"] is None


def test_convert_writes_a_store_and_says_how_to_use_it(capsys):
    text = output(capsys, "convert", "all.xyz", "store", "--shard-size", "5")
    assert text == "store holds 13 frames: data.file=store\n"
    assert len(list(Path("store").glob("*.h5"))) == 3
    assert len(open_source("store")) == 13


def test_verify_tells_that_a_store_is_whole(capsys):
    output(capsys, "convert", "all.xyz", "store", "--shard-size", "5", "--workers", "2")
    assert output(capsys, "verify", "store") == "store: 13 frames, every checksum is right\n"


def test_convert_maps_keys(capsys):
    output(capsys, "convert", "all.xyz", "out.lmdb", "--group-key", "note")
    assert open_source("out.lmdb").groups()[:3] == ["0", "1", "2"]


def test_split_writes_indices_and_copies_frames(capsys):
    text = output(capsys, "split", "all.xyz", "--val", "2", "--test", "0.25", "-o", "parts")
    assert "7 training, 2 validation, 3 test frames" in text
    indices = json.loads(Path("parts/split.json").read_text())
    assert sorted(index for part in indices.values() for index in part) == list(range(12))
    for part, chosen in indices.items():
        assert [atoms.info["note"] for atoms in read(f"parts/{part}.xyz", ":")] == chosen
    assert len(read("parts/isolated_atoms.xyz", ":")) == 1


def test_split_copies_letter_by_letter(capsys):
    output(capsys, "split", "all.xyz", "--val", "2", "-o", "parts")
    copied = "".join(Path(f"parts/{part}.xyz").read_text() for part in ("train", "val", "isolated_atoms"))
    assert sorted(copied.splitlines()) == sorted(Path("all.xyz").read_text().splitlines())


def test_split_by_group_keeps_groups_whole(capsys):
    output(capsys, "split", "all.xyz", "--by-group", "--val", "0.3", "-o", "parts")
    assert {atoms.info["config_type"] for atoms in read("parts/val.xyz", ":")} == {"hot"}


def test_split_of_a_store_writes_indices_alone(capsys):
    output(capsys, "convert", "all.xyz", "store")
    output(capsys, "split", "store", "-o", "parts")
    assert [path.name for path in Path("parts").iterdir()] == ["split.json"]


def test_statistics_are_those_of_training(capsys):
    text = output(capsys, "statistics", "all.xyz", "--r-max", "3")
    assert "frames                  12, 60 atoms" in text
    assert "neighbors               4.000 on average" in text
    assert text.splitlines()[-1].split()[:3] == ["C", "12", "4.000"]


def test_statistics_as_json(capsys):
    found = json.loads(output(capsys, "statistics", "all.xyz", "--json"))
    assert found["type_names"] == ["H", "C"]
    assert "rank 1" in found["singular"]


def test_sets_lists_names(capsys):
    assert "set:rmd17_ethanol" in output(capsys, "sets")


def test_named_sets_that_ship_with_the_package_are_read(capsys):
    assert "C (1), O (1)" in output(capsys, "inspect", "set:sample_methanol_isolated_atoms")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["inspect", "al.xyz"], "there is no file al.xyz (did you mean 'all.xyz'?)"),
        (["inspect", "all.xyz", "--energy-key", "energi"], "(did you mean 'energy'?)"),
        (["split", "all.xyz", "--val", "50", "-o", "parts"], "but there are only 12"),
        (["statistics", "all.xyz", "--r-max", "0.5"], "within r_max = 0.5 Å"),
        (["inspect", "set:rmd17_ethanl"], "rmd17_ethanl"),
    ],
)
def test_mistakes_are_told_in_one_sentence(capsys, argv, sentence):
    assert sentence in complaint(capsys, *argv)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["split", "all.xyz", "-o", "parts", "--val", "few"], "'few' is neither a number of frames"),
        (["convert", "all.xyz", "out", "--shard-size", "0"], "'0' is not a whole number above 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(capsys, argv, sentence):
    with pytest.raises(SystemExit) as leaving:
        data(argv)
    assert leaving.value.code == 2
    assert sentence in capsys.readouterr().err
