from __future__ import annotations

import os
import re
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from nequip.errors import CheckpointError
from nequip.model.card import TrainingRecord
from nequip.model.checkpoint import load
from nequip.model.registry import build_potential
from nequip.train.callbacks.checkpoints import Checkpoints
from nequip.train.checkpointing import FORMAT, VERSION, load_checkpoint
from nequip.train.datamodule import GraphDataModule
from nequip.train.module import PotentialModule
from nequip.train.prepare import prepare_data, resolve_model_config
from nequip.train.quiet import quiet_lightning
from nequip.train.run import run_training


def other_version(path: Path) -> None:
    torch.save({"format": FORMAT, "version": VERSION + 1}, path)


def code_inside(path: Path) -> None:
    torch.save({"format": FORMAT, "version": VERSION, "run": os.system}, path)


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda path: None, "there is no checkpoint"),
        (lambda path: path.write_bytes(b""), "cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(b"not a checkpoint at all"), "cannot be read as a checkpoint"),
        (
            lambda path: torch.save({"state_dict": {}}, path),
            "is not a checkpoint of a training run of e3forge",
        ),
        (other_version, f"has checkpoint version {VERSION + 1}"),
        (code_inside, "cannot be read as a checkpoint"),
    ],
)
def test_what_cannot_be_resumed_gets_one_sentence(tmp_path, write, sentence):
    path = tmp_path / "last.ckpt"
    write(path)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_cut_short_is_told(make_config):
    path = run_training(make_config()).output_dir / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        run_training(make_config(resume="auto"))


def test_resuming_from_a_potential_points_to_the_checkpoint(make_config):
    folder = run_training(make_config()).output_dir
    with pytest.raises(CheckpointError, match=r"resume from the \.ckpt beside it"):
        run_training(make_config(resume=str(folder / "last.nequip")))


class SeeWeights(pl.Callback):
    """Remembers the averaged and the raw weights of every validation."""

    def __init__(self):
        self.seen = []

    def on_validation_end(self, trainer, pl_module):
        weights = (pl_module.average.potential.depth, pl_module.potential.depth)
        self.seen.append([weight.detach().clone() for weight in weights])


def test_validation_in_mid_epoch_does_not_mix_up_average_and_raw_weights(make_config, tmp_path):
    # A published trap: checkpoints written after such a validation held the other weights.
    config = make_config()
    data = prepare_data(config)
    potential = build_potential(resolve_model_config(config.model, data))
    module = PotentialModule(potential, config.train)
    watch = SeeWeights()
    with quiet_lightning():
        pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            val_check_interval=3,
            callbacks=[watch, Checkpoints(tmp_path, "val/loss", TrainingRecord())],
            num_sanity_val_steps=0,
            inference_mode=False,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module, datamodule=GraphDataModule(data.train, data.val, config.data.batch))
    assert len(watch.seen) == 2
    trained_on = torch.equal(watch.seen[-1][1], module.potential.depth)
    assert not trained_on  # one batch of seven comes after the last validation
    for name in ("best", "last"):
        assert torch.equal(load(tmp_path / f"{name}.nequip").depth, module.average.potential.depth)
        assert torch.equal(load(tmp_path / f"{name}_raw.nequip").depth, module.potential.depth)


def test_a_full_disk_leaves_the_checkpoints_of_the_epoch_before(make_config, start_run):
    config = make_config(extensions={"callbacks": [{"_target_": "saboteurs.FillDisk", "epoch": 2}]})
    process = start_run(config)
    _, error = process.communicate(timeout=60)
    folder = Path(config.output_dir)
    assert (process.returncode, error.count("\n")) == (2, 1), error
    assert re.search(r"CheckpointError: cannot write .*\.ckpt: File too large; .* unharmed", error)
    assert load_checkpoint(folder / "last.ckpt")["training"]["position"] == (2, 0)
    assert load(folder / "best.nequip").card.training.epochs == 2
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
