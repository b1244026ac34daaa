from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import nequip
from nequip.cli.main import main

CONFIG = "data: {file: water.xyz, cache_dir: cache}\nmodel: {size: S}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a configuration, whose data file is missing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def complaint(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What a command that fails says; it says so on stderr, in words, with exit code 2."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["confg.yaml"], "no configuration file confg.yaml (did you mean 'config.yaml'?)"),
        (
            ["-cn", "ethanl"],
            "no configuration 'ethanl' among the shipped configurations (did you mean 'ethanol'?)",
        ),
        (["-cp", "nowhere", "-cn", "a"], "there is no folder nowhere"),
        (["-cp", ".", "-cn", "confi"], "(did you mean 'config'?)"),
        ([], "one configuration is needed, a file or -cn NAME, and none is given"),
        (["config.yaml", "-cn", "ethanol"], "and config.yaml and -cn ethanol is given"),
        (["-cp", ".", "config.yaml"], "--config-path goes with -cn NAME"),
        (["config.yaml", "model.size=XXL"], "'XXL' is given where 'S', 'M', 'L', 'XL' or null is expected"),
        (["config.yaml", "model.name=alegro"], "no architecture is called 'alegro'"),
        (["config.yaml"], "water.xyz"),
        (["config.yaml", "data.file=set:rmd17_ethanl"], "(did you mean 'rmd17_ethanol'?)"),
        (["config.yaml", "train.optimizer.name=AdamV"], "did you mean"),
        (["config.yaml", "model.l_max=1,2"], "several values need --multirun"),
    ],
    ids=" ".join,
)
def test_a_mistake_gets_a_sentence_and_code_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], expected: str
):
    assert expected in complaint(capsys, "train", *argv)


def test_a_mistake_leaves_nothing_behind(capsys: pytest.CaptureFixture[str], folder: Path):
    complaint(capsys, "train", "config.yaml")
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


def test_all_mistakes_of_a_configuration_are_told_at_once(capsys: pytest.CaptureFixture[str]):
    assert complaint(capsys, "train", "config.yaml", "train.lr=1", "model.cutoff=4") == (
        "nequip train:\n"
        "  train.lr: no such key (did you mean train.optimizer.lr?) [command line]\n"
        "  model.cutoff: no such key (did you mean model.r_max?) [command line]\n"
    )


def test_a_misspelt_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(["trian"])
    assert "no command is called 'trian' (did you mean 'train'?)" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"e3forge {nequip.__version__}\n"


@pytest.mark.parametrize("name", ["train", "evaluate", "data"])
def test_a_dashed_name_is_the_command(capsys: pytest.CaptureFixture[str], name: str):
    (script,) = entry_points(group="console_scripts", name=f"nequip-{name}")
    with pytest.raises(SystemExit, match="0"):
        script.load()(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: nequip-{name} ")


def test_info_of_a_missing_file(capsys: pytest.CaptureFixture[str]):
    assert "there is no file best.nequip" in complaint(capsys, "info", "best.nequip")


def test_words_and_options_may_be_mixed(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "model.l_max=0", "--print-config", "config.yaml", "model.num_features=8"]) == 0
    printed = capsys.readouterr().out
    assert "l_max: 0" in printed
    assert "num_features: 8" in printed


@pytest.mark.parametrize("name", ["ethanol", "experiment/ethanol"])
def test_shipped_configurations_are_found_by_name(capsys: pytest.CaptureFixture[str], name: str):
    assert main(["train", "-cn", name, "--cfg"]) == 0
    assert "rmd17_ethanol_train01" in capsys.readouterr().out


def test_every_combination_goes_to_a_folder_of_its_own(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "config.yaml", "-m", "model.l_max=0,1", "model.num_features=8", "--cfg"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith(("output_dir", "  l_max"))] == [
        "  l_max: 0",
        "output_dir: outputs/0",
        "  l_max: 1",
        "output_dir: outputs/1",
    ]


def test_a_reader_that_goes_away_is_no_error(folder: Path):
    command = [sys.executable, "-m", "nequip.cli.main", "train", "config.yaml", "--print-config"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nequip.config.compose.compose", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["train", "config.yaml"])
