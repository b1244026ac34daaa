"""Runs that cannot go on, and runs that the user stops: one sentence, nothing lost."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch

from nequip.errors import TrainingError
from nequip.train.checkpointing import load_checkpoint
from nequip.train.failures import is_out_of_memory
from nequip.train.run import run_training


def test_a_loss_of_nan_names_the_batch_and_keeps_it(make_config):
    config = make_config(
        model={"fail": "nan"}, data={"split": {"train": 30, "val": 0}}, train={"monitor": "train/loss"}
    )
    with pytest.raises(TrainingError, match=r"the loss became nan in epoch 1, batch \d") as caught:
        run_training(config)
    sentence = str(caught.value)
    frames = [int(index) for index in re.search(r"frames ([\d, ]+)\)", sentence)[1].split(",")]
    assert 3 in frames
    batch = torch.load(Path(config.output_dir) / "failed_batch.pt", weights_only=True)
    assert batch["labels"]["index"].tolist() == frames


def test_a_gradient_of_infinity_never_reaches_the_weights(make_config):
    # A loss that is finite, and steps that are not.
    train = {"optimizer": {"name": "SGD", "lr": 1e200}, "loss": {"forces": None, "energy": {"kind": "mse"}}}
    config = make_config(train=train, model={"dtype": "float64"}, trainer={"max_epochs": 50})
    with pytest.raises(TrainingError, match=r"lower train.optimizer.lr or set train.gradient_clip"):
        run_training(config)


def test_a_skipped_step_changes_neither_weights_nor_average(make_config, tmp_path):
    # Of one batch, the whole set, every epoch is skipped; momentum and decay would show.
    train = {"monitor": "train/loss", "not_finite": "skip", "optimizer": {"name": "AdamW", "lr": 0.1}}
    data = {"split": {"train": 30, "val": 0}, "batch": {"size": 30}}
    first, then = (
        run_training(
            make_config(
                model={"fail": "nan"},
                data=data,
                train=train,
                trainer={"max_epochs": epochs},
                output_dir=str(tmp_path / f"run{epochs}"),
            )
        ).output_dir
        for epochs in (1, 3)
    )
    states = (load_checkpoint(folder / "last.ckpt")["state_dict"] for folder in (first, then))
    torch.testing.assert_close(*states, rtol=0, atol=0)


def test_steps_that_are_never_finite_end_the_run_even_so(make_config):
    train = {"monitor": "train/loss", "not_finite": "skip"}
    data = {"split": {"train": 30, "val": 0}, "batch": {"size": 30}}
    with pytest.raises(TrainingError, match="the loss became nan in epoch 11, batch 1 "):
        run_training(make_config(model={"fail": "nan"}, data=data, train=train, trainer={"max_epochs": 20}))


def test_out_of_memory_names_the_batch_and_what_to_lower(make_config):
    with pytest.raises(TrainingError, match=r"epoch 1, batch 1 \(3 structures, \d+ atoms, .*data.batch.size"):
        run_training(make_config(model={"fail": "memory"}))


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("not enough memory"), False),
    ],
)
def test_memory_errors_are_told_from_others(error, answer):
    assert is_out_of_memory(error) == answer


@pytest.mark.parametrize("num_workers", [0, 2])
def test_ctrl_c_at_a_terminal_saves_and_exits_with_130(make_config, start_run, num_workers):
    # A terminal sends the signal to every process of the group, the loader workers too.
    config = make_config(
        data={"num_workers": num_workers},
        trainer={"max_epochs": 10_000, "logging": {"progress": "lines"}},
    )
    process = start_run(config)
    assert process.stdout.readline().startswith("epoch     1/10000")
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    lines = error.strip().splitlines()
    assert process.returncode == 130, error
    assert lines[0].startswith("Stopping after this batch")
    assert re.match(
        r"TrainingInterrupted: training was interrupted; .*last.ckpt holds its state .* resume=auto", lines[1]
    )
    assert len(lines) == 2
    assert load_checkpoint(Path(config.output_dir) / "last.ckpt")["training"]["position"] > (0, 0)
