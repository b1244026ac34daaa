from __future__ import annotations

from pathlib import Path

import pytest
import torch
from taught_frames import teacher

from nequip.errors import ConfigError
from nequip.model.checkpoint import load
from nequip.train.checkpointing import load_checkpoint
from nequip.train.freezing import freeze
from nequip.train.run import run_training


def frozen(patterns: list[str]) -> set[str]:
    potential = teacher("nequip")
    freeze(potential, patterns)
    return {name for name, weight in potential.named_parameters() if not weight.requires_grad}


def test_patterns_name_weights_and_branches():
    assert frozen(["type_embedding"]) == {"type_embedding"}
    assert frozen(["layers.1"]) == frozen(["layers.1.*"])
    assert {name.split(".")[2] for name in frozen(["layers.*.radial"])} == {"radial"}


@pytest.mark.parametrize(
    ("patterns", "sentence"),
    [
        (
            ["type_embeding"],
            "'type_embeding' matches no weight of this model; the nearest names are type_embedding",
        ),
        (["layer.0.*"], "the nearest names are layers.0"),
        (["*"], "match every weight: leave some to be trained"),
    ],
)
def test_a_pattern_that_makes_no_sense_gets_one_sentence(patterns, sentence):
    with pytest.raises(ConfigError, match=sentence.replace("*", r"\*")):
        freeze(teacher("nequip"), patterns)


def test_frozen_weights_stay_bit_by_bit_and_others_do_not(make_config, tmp_path: Path):
    start = teacher("nequip")
    start.save(tmp_path / "start.nequip")
    train = {"freeze": ["layers.0", "type_embedding"], "optimizer": {"name": "AdamW", "weight_decay": 0.1}}
    folder = run_training(make_config(model={"file": str(tmp_path / "start.nequip")}, train=train)).output_dir
    for name in ("best.nequip", "last.nequip", "last_raw.nequip"):
        weights = dict(load(folder / name).named_parameters())
        unchanged = {key for key, weight in start.named_parameters() if torch.equal(weight, weights[key])}
        assert unchanged == frozen(["layers.0", "type_embedding"])


def test_frozen_weights_take_no_room_in_the_optimizer(make_config):
    folder = run_training(make_config(train={"freeze": ["depth", "shift"]})).output_dir
    (state,) = load_checkpoint(folder / "last.ckpt")["optimizer_states"]
    assert len(state["state"]) == 1
