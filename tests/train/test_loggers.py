from __future__ import annotations

import csv
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from nequip.errors import CheckpointError
from nequip.train.loggers import CsvTable
from nequip.train.run import run_training


def last_val_loss(folder: Path) -> float:
    with (folder / "metrics.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["val/loss"])


def test_tensorboard_gets_the_numbers_of_every_epoch(make_config):
    logging = {"tensorboard": True, "progress": "off"}
    folder = run_training(make_config(trainer={"max_epochs": 3, "logging": logging})).output_dir
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    scalars = events.Scalars("val/loss")
    assert [scalar.step for scalar in scalars] == [7, 14, 21]
    assert scalars[-1].value == pytest.approx(last_val_loss(folder))
    assert "step/grad_norm" in events.Tags()["scalars"]


def wandb_records(content: bytes) -> Iterator[wandb_internal_pb2.Record]:
    """The records of a LevelDB log: blocks of 32 kB; checksum, length, kind and data in each piece."""
    position, data = 7, b""  # after the header of the file
    while position + 7 <= len(content):
        left_in_block = -position % 32768
        if 0 < left_in_block < 7:
            position += left_in_block
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        data += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield wandb_internal_pb2.Record.FromString(data)
            data = b""


def wandb_history(folder: Path) -> list[dict[str, str]]:
    """Every row of numbers of an offline run, read from its file."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return [
        {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        for record in wandb_records(file.read_bytes())
        if record.WhichOneof("record_type") == "history"
    ]


def test_wandb_offline_writes_the_numbers_of_every_epoch_to_its_file(make_config):
    logging = {"wandb": "offline", "project": "tiny", "progress": "off"}
    folder = run_training(make_config(trainer={"max_epochs": 3, "logging": logging})).output_dir
    wandb.teardown()
    losses = [float(row["val/loss"]) for row in wandb_history(folder) if "val/loss" in row]
    assert len(losses) == 3
    assert losses[-1] == pytest.approx(last_val_loss(folder))


def test_a_resumed_run_goes_on_with_its_wandb_run(make_config):
    for epochs in (1, 2):
        trainer = {"max_epochs": epochs, "logging": {"wandb": "offline", "progress": "off"}}
        folder = run_training(make_config(trainer=trainer, resume="auto")).output_dir
    wandb.teardown()
    files = list(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1


def test_a_resumed_run_goes_on_with_its_tensorboard_steps(make_config):
    for epochs in (1, 2):
        trainer = {"max_epochs": epochs, "logging": {"tensorboard": True, "progress": "off"}}
        folder = run_training(make_config(trainer=trainer, resume="auto")).output_dir
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [scalar.step for scalar in events.Scalars("val/loss")] == [7, 14]
    assert events.Scalars("atoms_per_s")[-1].value > 0


def test_what_tensorboard_was_told_after_the_checkpoint_of_a_killed_run_is_forgotten(make_config):
    def run(epochs: int) -> Path:
        trainer = {"max_epochs": epochs, "logging": {"tensorboard": True, "progress": "off"}}
        return run_training(make_config(trainer=trainer, resume="auto")).output_dir

    folder = run(1)
    checkpoint = (folder / "last.ckpt").read_bytes()
    run(3)
    (folder / "last.ckpt").write_bytes(checkpoint)
    run(2)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [scalar.step for scalar in events.Scalars("val/loss")] == [7, 14]


def test_a_row_with_new_columns_keeps_the_old_rows(tmp_path):
    table = CsvTable(tmp_path / "table.csv")
    table.append({"epoch": 1, "loss": 0.1})
    table.append({"epoch": 2, "loss": 0.2, "val": 1e-20})
    assert table.path.read_text().split() == ["epoch,loss,val", "1,0.1,", "2,0.2,1e-20"]


def test_a_resumed_table_drops_later_rows(tmp_path):
    first = CsvTable(tmp_path / "table.csv")
    for epoch in (1, 2, 3):
        first.append({"epoch": epoch, "loss": 0.5})
    second = CsvTable(first.path)
    second.resume("epoch", 2)
    second.append({"epoch": 3, "loss": 0.25})
    assert second.path.read_text().split() == ["epoch,loss", "1,0.5", "2,0.5", "3,0.25"]


def test_a_row_cut_short_by_a_crash_is_dropped(tmp_path):
    table = CsvTable(tmp_path / "table.csv")
    table.append({"epoch": 1, "loss": 0.5})
    with table.path.open("a") as file:
        file.write("2")
    CsvTable(table.path).resume("epoch", 9)
    assert table.path.read_text().split() == ["epoch,loss", "1,0.5"]


def test_a_table_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot write .*table\.csv"):
        CsvTable(tmp_path / "no_folder" / "table.csv").append({"epoch": 1})


def test_lines_of_a_batch_job_say_what_a_person_wants_to_know(make_config, capfd):
    trainer = {"max_epochs": 2, "accelerator": "cpu", "logging": {"progress": "auto"}}
    run_training(make_config(trainer=trainer))
    out, err = capfd.readouterr()
    first, second = out.splitlines()
    pattern = (
        r"epoch 1/2  loss [\d.]+  val [\d.]+  E [\d.]+ meV/atom  F [\d.]+ meV/Å  S [\d.]+ meV/Å³  "
        r"lr 0.01  [\d.e-]+ s/epoch, \d+ s left  "
        r"[\d.e+]+ atoms/s, [\d.e+]+ edges/s, data wait \d+%, [\d.]+ GB"
    )
    assert re.fullmatch(pattern, first), first
    assert ", 0 s left  " in second
    assert err == ""


def test_the_bar_shows_the_batches_and_leaves_the_lines(make_config, capfd):
    run_training(make_config(trainer={"max_epochs": 2, "logging": {"progress": "bar"}}))
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 2
    assert "epoch 2" in err
    assert "/7" in err
