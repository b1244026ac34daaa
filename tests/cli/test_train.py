from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nequip.cli.main import main
from nequip.model.checkpoint import read_card

TINY = """
defaults: [{train: forces}, {trainer: cpu}]
data: {file: set:sample_methanol, cache_dir: cache, split: {train: 8, val: 4, test: 2}}
model: {num_layers: 1, l_max: 1, num_features: 4, radial_mlp_width: 8, r_max: 3.0}
trainer: {max_epochs: 2, logging: {progress: lines}}
output_dir: run
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a configuration that trains within a second."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def test_a_run_says_where_everything_lies(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "tiny.yaml"]) == 0
    printed = capsys.readouterr().out
    for name in ("best.nequip", "last.ckpt", "metrics.csv", "report/report.html", "config.yaml"):
        assert Path("run", name).is_file()
        assert f"  {name}" in printed
    assert 'atoms.calc = NequIPCalculator("run/best.nequip")' in printed
    assert "val frames:" in printed
    assert "test frames:" in printed


def test_the_report_can_be_left_out(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "tiny.yaml", "trainer.report=false"]) == 0
    assert not Path("run", "report").exists()
    assert "report.html" not in capsys.readouterr().out


def test_a_run_without_validation_frames_needs_no_report():
    assert main(["train", "tiny.yaml", "data.split={val: 0, train: 8}", *ON_TRAINING_LOSS]) == 0
    assert Path("run", "last.nequip").is_file()


ON_TRAINING_LOSS = [
    "train.monitor=train/loss",
    "train.scheduler.monitor=train/loss",
    "train.early_stopping.monitor=train/loss",
]


def test_a_second_run_does_not_write_over_the_first(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "tiny.yaml", "trainer.report=false"]) == 0
    assert main(["train", "tiny.yaml"]) == 2
    assert "output_dir run already holds a run: say resume=auto" in capsys.readouterr().err


def test_the_command_that_is_suggested_trains_on(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "tiny.yaml", "trainer.report=false"]) == 0
    suggested = capsys.readouterr().out.strip().splitlines()[-1].split()
    assert suggested == ["nequip-train", "run/config.yaml", "resume=auto", "trainer.max_epochs=4"]
    assert main(["train", *suggested[1:]]) == 0
    assert read_card("run/last.nequip").training.epochs == 4


def test_every_combination_is_trained_in_its_own_folder():
    assert main(["train", "tiny.yaml", "-m", "model.l_max=0,1", "trainer.report=false"]) == 0
    assert [read_card(f"run/{number}/best.nequip").config["l_max"] for number in (0, 1)] == [0, 1]


def test_info_prints_the_card(capsys: pytest.CaptureFixture[str]):
    main(["train", "tiny.yaml", "trainer.report=false"])
    capsys.readouterr()
    assert main(["info", "run/best.nequip"]) == 0
    assert "architecture: nequip" in capsys.readouterr().out


def test_control_c_saves_the_state_and_says_how_to_go_on():
    train = [sys.executable, "-m", "nequip.cli.main", "train", "tiny.yaml", "trainer.report=false"]
    command = [*train, "trainer.max_epochs=100000", "train.early_stopping=null"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()  # the first epoch is over
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate()
    assert process.returncode == 130
    assert "resume=auto" in complaint
    assert "Traceback" not in complaint
    done = read_card("run/last.nequip").training.epochs
    assert main(["train", *train[4:], "resume=auto", f"trainer.max_epochs={done + 1}"]) == 0
