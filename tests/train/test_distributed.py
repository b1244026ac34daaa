"""Several processes train as one does: the same gradients, errors and decisions, at any width."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from interrupted_runs import press_ctrl_c, rows

from nequip.config.compose import to_yaml
from nequip.errors import TrainingError
from nequip.train.callbacks.stop import TrainingInterrupted
from nequip.train.checkpointing import load_checkpoint
from nequip.train.processes import ProcessLost
from nequip.train.run import run_training

# Weights of float64, a step that keeps differences as small as they are, and everything that could tell
# one process from another: budgets, groups and missing labels, a schedule by plateau, an average.
COMMON: dict[str, Any] = {
    "model": {"dtype": "float64"},
    "train": {
        "optimizer": {"name": "SGD", "lr": 0.01},
        "scheduler": {"name": "ReduceLROnPlateau", "params": {"patience": 0, "threshold": 0.1}},
        "early_stopping": {"patience": 3, "min_delta": 0.2},
    },
}
# A last batch of two frames leaves one of three processes without any.
BATCHES = {"frames": {"size": 3, "val_size": 4}, "atoms": {"max_atoms": 13}, "edges": {"max_edges": 60}}


@pytest.fixture(scope="module")
def finished() -> dict[tuple[str, int], Path]:
    """Output folders of runs by batches and width, filled as tests ask for them."""
    return {}


@pytest.fixture
def folder_of(make_config, finished, tmp_path_factory) -> Callable[[str, int], Path]:
    def run(batches: str, width: int) -> Path:
        if (batches, width) not in finished:
            folder = tmp_path_factory.mktemp(f"{batches}{width}")
            watch = {"_target_": "saboteurs.SaveGradients", "file": str(folder / "gradients.pt")}
            config = make_config(
                **COMMON,
                data={"batch": BATCHES[batches]},
                trainer=wide(width),
                extensions={"callbacks": [watch]},
                output_dir=str(folder / "run"),
            )
            finished[batches, width] = run_training(config).output_dir
        return finished[batches, width]

    return run


def wide(width: int, **options: Any) -> dict[str, Any]:
    several = {} if width == 1 else {"devices": width, "strategy": "ddp"}
    return {"logging": {"progress": "off", "every_n_steps": 1}, "max_epochs": 3, **several, **options}


every_width = pytest.mark.parametrize(("batches", "width"), [("frames", 3), ("atoms", 2), ("edges", 2)])


@every_width
def test_gradients_are_those_of_one_process(folder_of, batches, width):
    one, many = (
        torch.load(folder_of(batches, number).parent / "gradients.pt", weights_only=True)
        for number in (1, width)
    )
    assert len(one) == len(many) > 3
    for left, right in zip(one, many, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@every_width
def test_errors_rates_and_the_end_are_those_of_one_process(folder_of, batches, width):
    assert_alike(folder_of(batches, 1), folder_of(batches, width))


def test_processes_tell_how_long_they_wait_for_each_other(folder_of):
    assert 0 < float(rows(folder_of("atoms", 2) / "metrics.csv")[0]["idle"]) < 1


def test_one_process_alone_writes_files(folder_of):
    one, many = ({path.name for path in folder_of("frames", width).iterdir()} for width in (1, 3))
    assert one == many


@pytest.mark.parametrize(("first", "then", "asked"), [(2, 1, 1), (1, 3, None), (2, 3, 0)])
def test_an_epoch_goes_on_with_another_number_of_processes(make_config, folder_of, first, then, asked):
    # Ctrl-C in one process stops all of them.
    changes = {**COMMON, "data": {"batch": BATCHES["atoms"]}}
    stop = press_ctrl_c(9, rank=asked)
    with pytest.raises(TrainingInterrupted):
        run_training(make_config(**changes, trainer=wide(first), extensions=stop))
    outcome = run_training(make_config(**changes, trainer=wide(then), resume="auto"))
    assert_alike(folder_of("atoms", 1), outcome.output_dir)


def test_every_message_comes_once(make_config, capfd):
    logging = {"progress": "lines", "every_n_steps": 1}
    run_training(make_config(trainer=wide(2, logging=logging, max_epochs=1)))
    captured = capfd.readouterr()
    assert (captured.out.count("epoch 1/1"), captured.err) == (1, "")


def test_a_loss_that_is_not_finite_names_the_frames_of_all_processes(make_config, tmp_path):
    sentences = []
    for width in (1, 2):
        config = make_config(
            model={"fail": "nan"},
            trainer=wide(width),
            data={"batch": {"size": 20}},
            output_dir=str(tmp_path / f"run{width}"),
        )
        with pytest.raises(TrainingError, match="the loss became nan in epoch 1, batch 1") as caught:
            run_training(config)
        sentences.append(str(caught.value).replace(config.output_dir, ""))
    one, two = (set(sentence.split("; frames ")[1].split("): ")[0].split(", ")) for sentence in sentences)
    assert one == two


def skipping(width: int) -> dict[str, Any]:
    """Training in which one batch of each epoch gives no number."""
    return {
        "model": {"fail": "nan", "dtype": "float64"},
        "data": {"split": {"train": 30, "val": 0}},
        "train": {**COMMON["train"], "monitor": "train/loss", "scheduler": None, "early_stopping": None}
        | {"not_finite": "skip"},
        "trainer": wide(width),
    }


def test_all_processes_skip_a_step_that_is_not_finite(make_config, tmp_path, caplog):
    one, two = (
        run_training(make_config(**skipping(width), output_dir=str(tmp_path / f"run{width}"))).output_dir
        for width in (1, 2)
    )
    assert [row["train/skipped"] for row in rows(two / "metrics.csv")] == ["1"] * 3
    assert caplog.text.count("the step is skipped") == 2 * 3
    assert [path.name for path in sorted(one.glob("skipped_batch_*.pt"))] == [
        path.name for path in sorted(two.glob("skipped_batch_*.pt"))
    ]
    for name in ("metrics.csv", "steps.csv"):
        for ours, theirs in zip(rows(one / name), rows(two / name), strict=True):
            ours, theirs = numbers(ours), numbers(theirs)
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12, nan_ok=True)
    states = (load_checkpoint(folder / "last.ckpt")["state_dict"] for folder in (one, two))
    torch.testing.assert_close(*states, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("width", [1, 2])
def test_speed_and_memory_are_those_of_all_processes(folder_of, width):
    for row in csv_rows(folder_of("atoms", width) / "metrics.csv"):
        edges, atoms = float(row["edges_per_s"]), float(row["atoms_per_s"])
        assert edges > atoms > 0
        assert 0 < float(row["data_wait"]) < 1
        assert 0.05 < float(row["memory"]) < 10


def test_a_full_disk_ends_all_processes_in_one_sentence(make_config, start_run):
    # In a process of its own: the limit on files is for good.
    full = {"callbacks": [{"_target_": "saboteurs.FillDisk", "epoch": 2}]}
    process = start_run(make_config(trainer=wide(2), extensions=full))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert re.fullmatch(r"CheckpointError: cannot write .*\.ckpt: File too large; .* unharmed.*\n", errors), (
        errors
    )


def test_the_loss_of_a_process_is_told_and_the_run_goes_on_from_its_checkpoint(
    make_config, folder_of, tmp_path
):
    changes = {**COMMON, "data": {"batch": BATCHES["atoms"]}}
    kill = {"_target_": "saboteurs.Kill", "step": 15, "rank": 1, "folder": str(tmp_path)}
    with pytest.raises(ProcessLost, match=r"process 1 of 3 was ended by SIGKILL .* resume=auto"):
        run_training(make_config(**changes, trainer=wide(3), extensions={"callbacks": [kill]}))
    outcome = run_training(make_config(**changes, trainer=wide(1), resume="auto"))
    assert_alike(folder_of("atoms", 1), outcome.output_dir)


def test_of_many_processes_the_one_that_began_is_named(make_config, tmp_path):
    kill = {"_target_": "saboteurs.Kill", "step": 8, "rank": 2, "folder": str(tmp_path)}
    with pytest.raises(ProcessLost, match="process 2 of 3 was ended by SIGKILL"):
        run_training(make_config(trainer=wide(3), extensions={"callbacks": [kill]}))


def test_what_another_process_finds_wrong_is_told_in_one_sentence(make_config, start_run):
    spoil = {"_target_": "saboteurs.SpoilData", "step": 8, "rank": 1}
    process = start_run(make_config(trainer=wide(2), extensions={"callbacks": [spoil]}))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert errors.startswith(
        "ProcessLost: process 1 of 2 failed (frame 7 of frames.h5 cannot be read), and the"
    )
    assert (errors.count("\n"), errors.count("resume=auto")) == (1, 1), errors


def test_no_process_outlives_the_first(make_config, start_run, tmp_path):
    kill = {"_target_": "saboteurs.Kill", "step": 9, "rank": 0, "folder": str(tmp_path)}
    process = start_run(make_config(trainer=wide(2), extensions={"callbacks": [kill]}))
    _, errors = process.communicate(timeout=60)  # the pipe closes when both have ended
    assert process.returncode == -9
    assert errors.startswith("process 1: ")
    assert "resume=auto" in errors
    assert errors.count("\n") == 1


def test_weights_without_a_part_in_the_loss_do_no_harm(make_config, tmp_path):
    # Forces do not depend on the shifts.
    forces_alone = {"model": {"dtype": "float64"}, "train": {"loss": {"energy": None}}}
    one, two = (
        run_training(
            make_config(**forces_alone, trainer=wide(width), output_dir=str(tmp_path / f"run{width}"))
        ).output_dir
        for width in (1, 2)
    )
    assert_alike(one, two)


SMALL = {"name": "nequip", "num_layers": 1, "l_max": 1, "num_features": 4, "dtype": "float64"}


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("backend", "compile"),
    [("reference", False), ("compiled", False), ("cpu", False), ("auto", True)],
    ids=str,
)
def test_compiled_steps_and_every_kernel_train_in_two_processes_as_in_one(
    make_config, tmp_path, caplog, backend, compile
):
    one, two = (
        run_training(
            make_config(
                model={**SMALL, "backend": backend},
                train={"compile": compile, "optimizer": {"name": "SGD", "lr": 1e-3}},
                data={"split": {"train": 8, "val": 2}, "batch": {"size": 4}},
                trainer=wide(width, max_epochs=2),
                output_dir=str(tmp_path / f"run{width}"),
            )
        ).output_dir
        for width in (1, 2)
    )
    assert_alike(one, two)
    assert "eager mode" not in caplog.text


def test_torchrun_starts_the_processes_too(make_config, folder_of, tiny_package, tmp_path):
    config = make_config(**COMMON, data={"batch": BATCHES["atoms"]}, trainer=wide(2))
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    words = ["--standalone", "--nproc-per-node=2", "-m", "nequip.cli.main", "train"]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *words, str(tmp_path / "run.yaml")],
        env={**os.environ, "PYTHONPATH": f"{tiny_package}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Training ended after 3 epochs") == 1
    assert_alike(folder_of("atoms", 1), Path(config.output_dir))


def assert_alike(left: Path, right: Path) -> None:
    """The same rows of numbers, weights and average, up to the rounding of sums in another order."""
    for name in ("metrics.csv", "steps.csv"):
        ours, theirs = rows(left / name), rows(right / name)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            other.pop("idle", None)
            assert numbers(one) == pytest.approx(numbers(other), rel=1e-9, abs=1e-12)
    one, other = (load_checkpoint(folder / "last.ckpt")["state_dict"] for folder in (left, right))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def csv_rows(path: Path) -> list[dict[str, str]]:
    """All columns, those of time and memory included."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(row: dict[str, str]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if value and name != "idle"}
