from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nequip.cli.main import convert, main

FILES = Path(__file__).parents[1] / "interop" / "files"


def test_a_file_of_another_package_becomes_one_of_ours_with_a_card(tmp_path, capsys):
    target = str(tmp_path / "cc.nequip")
    told = ["--licence", "MIT", "--functional", "CCSD(T)", "--dtype", "float32"]
    assert convert([str(FILES / "mace_two_heads.model"), target, "--head", "cc", *told]) == 0
    assert "mace in float32, cutoff 4 Å, 3 elements (H, C, O)" in capsys.readouterr().out
    assert main(["info", target]) == 0
    card = yaml.safe_load(capsys.readouterr().out)
    assert card["type_names"] == ["H", "C", "O"]
    assert card["source"] == {
        "file": "mace_two_heads.model",
        "sha256": "2728c651e2dae8111db7356fc3c8474883ebe4718956b64ab34a847c45e6d98d",
        "format": "model of mace-torch (.model)",
        "head": "cc",
        "licence": "MIT",
        "functional": "CCSD(T)",
    }


def test_info_reads_a_file_of_another_package(capsys):
    assert main(["info", str(FILES / "nequip_ema.ckpt")]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["source"]["format"] == "checkpoint of nequip (.ckpt)"


def test_evaluation_takes_a_file_of_another_package(tmp_path, capsys):
    frames = tmp_path / "frames.xyz"
    frames.write_text("2\nProperties=species:S:1:pos:R:3 energy=-3\nC 0 0 0\nO 0 0 1.1\n")
    files = [str(FILES / "mace_two_heads.model"), str(frames)]
    assert (
        main(["evaluate", *files, "--head", "cc", "-o", str(tmp_path / "out"), "--backend", "reference"]) == 0
    )
    assert "1 frames, 2 atoms" in capsys.readouterr().out


def test_dynamics_take_a_file_of_another_package(tmp_path, capsys):
    frame = tmp_path / "frame.xyz"
    frame.write_text("2\n\nC 0 0 0\nO 0 0 1.1\n")
    files = [str(FILES / "nequip_ema.ckpt"), str(frame)]
    options = ["--steps", "2", "-o", str(tmp_path / "out"), "--backend", "reference"]
    assert main(["md", *files, *options]) == 0
    assert "2 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["{model}", "{model}"], "written over itself"),
        (["{model}", "x.nequip", "--licence", "MIT"], "was trained here, not converted"),
        (["{model}", "x.nequip", "--head", "cc"], "its head was chosen"),
        (["nothing.model", "x.nequip"], "there is no file nothing.model"),
    ],
)
def test_mistakes_are_told_in_one_sentence(argv, words, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert convert([word.format(model=model) for word in argv]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_of_ours_can_be_written_in_another_precision(model, tmp_path, capsys):
    assert convert([str(model), str(tmp_path / "x.nequip"), "--dtype", "float64"]) == 0
    assert "nequip in float64" in capsys.readouterr().out


def test_the_command_has_a_name_of_its_own():
    script = Path(sys.executable).with_name("nequip-convert")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
    assert "nequip-convert" in done.stdout
