"""Training on sharded stores: the run on the text file, with any number of processes and workers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from interrupted_runs import press_ctrl_c, rows

from nequip.config import CACHE_DIR
from nequip.data.convert import convert
from nequip.data.sources import open_source
from nequip.errors import DataError
from nequip.train.callbacks.stop import TrainingInterrupted
from nequip.train.checkpointing import load_checkpoint
from nequip.train.run import run_training

CHANGES: dict[str, Any] = {
    "model": {"dtype": "float64"},
    "train": {"optimizer": {"name": "SGD", "lr": 0.01}},
}


@pytest.fixture(scope="module")
def files(structures, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sharded")
    for kind in ("hdf5", "lmdb"):
        convert(structures, folder / kind, kind=kind, shard_size=4, num_workers=2)
    return {"text": structures, "hdf5": folder / "hdf5", "lmdb": folder / "lmdb"}


@pytest.fixture
def configure(make_config, files, tmp_path) -> Callable[..., Any]:
    def make(kind: str, width: int, num_workers: int, **options: Any) -> Any:
        several = {} if width == 1 else {"devices": width, "strategy": "ddp"}
        data = {"file": str(files[kind]), "batch": {"max_edges": 60}, "num_workers": num_workers}
        trainer = {"logging": {"progress": "off", "every_n_steps": 1}, "max_epochs": 2, **several}
        return make_config(**CHANGES, data=data, trainer=trainer, **options)

    return make


@pytest.fixture(scope="module")
def finished() -> dict[str, Path]:
    """The run on the text file, once."""
    return {}


@pytest.fixture
def reference(configure, finished, tmp_path_factory) -> Path:
    if "text" not in finished:
        folder = tmp_path_factory.mktemp("text")
        finished["text"] = run_training(configure("text", 1, 0, output_dir=str(folder / "run"))).output_dir
    return finished["text"]


@pytest.mark.parametrize(("kind", "width", "num_workers"), [("hdf5", 2, 1), ("lmdb", 3, 0), ("lmdb", 1, 2)])
def test_a_store_trains_as_its_text_does(configure, reference, kind, width, num_workers):
    assert_alike(run_training(configure(kind, width, num_workers)).output_dir, reference)


def test_neighbor_lists_lie_beside_the_shards_unless_another_place_is_named(make_config, files, tmp_path):
    store = shutil.copytree(files["hdf5"], tmp_path / "store")
    data = {"file": str(store), "split": {"val": 2}}
    named = {"cache_dir": str(tmp_path / "cache")}
    trainer = {"max_epochs": 1, "logging": {"progress": "off"}}
    run_training(make_config(data=data | named, trainer=trainer, output_dir=str(tmp_path / "first")))
    assert not (store / "neighbors").exists()
    data["cache_dir"] = CACHE_DIR
    run_training(make_config(data=data, trainer=trainer, output_dir=str(tmp_path / "second")))
    written = {path.name for path in (store / "neighbors").iterdir()}
    assert written == {path.name for path in (tmp_path / "cache/neighbors").iterdir()}
    assert len(open_source(store)) == len(open_source(files["hdf5"]))


@pytest.mark.parametrize(("kind", "first", "then"), [("hdf5", (2, 1), (1, 0)), ("lmdb", (1, 1), (3, 0))])
def test_an_epoch_over_shards_goes_on_at_another_width(configure, reference, kind, first, then):
    with pytest.raises(TrainingInterrupted):
        run_training(configure(kind, *first, extensions=press_ctrl_c(5, rank=0)))
    assert_alike(run_training(configure(kind, *then, resume="auto")).output_dir, reference)


@pytest.mark.parametrize("width", [1, 2])
def test_a_shard_that_was_cut_is_told_before_training_begins(configure, files, capfd, width):
    shard = files["hdf5"] / "shard-00003.h5"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    try:
        with pytest.raises(DataError, match=r"shard-00003\.h5 has \d+ bytes, but \d+ were written"):
            run_training(configure("hdf5", width, 0))
    finally:
        shard.write_bytes(whole)
    assert capfd.readouterr().err == ""


def assert_alike(left: Path, right: Path) -> None:
    """The same numbers in every step and epoch, and the same weights, up to sums in another order."""
    for name in ("metrics.csv", "steps.csv"):
        ours, theirs = rows(left / name), rows(right / name)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert numbers(one) == pytest.approx(numbers(other), rel=1e-9, abs=1e-12)
    one, other = (load_checkpoint(folder / "last.ckpt")["state_dict"] for folder in (left, right))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def numbers(row: dict[str, str]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if value and name != "idle"}
