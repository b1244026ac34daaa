"""Runs that Ctrl-C stops at a given step, and whether two runs came out the same."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import torch

from nequip.train.checkpointing import load_checkpoint

# What no two runs have in common.
SPEED = {"time", "elapsed", "atoms_per_s", "edges_per_s", "data_wait", "memory"}


def press_ctrl_c(step: int, **options: Any) -> dict[str, Any]:
    return {"callbacks": [{"_target_": "saboteurs.PressCtrlC", "step": step, **options}]}


def assert_same_run(left: Path, right: Path) -> None:
    """The same weights, states and rows of numbers, but for the time it took."""
    a, b = (load_checkpoint(folder / "last.ckpt") for folder in (left, right))
    assert_same(a["state_dict"], b["state_dict"])
    assert_same(a["optimizer_states"], b["optimizer_states"])
    assert_same(a["training"], b["training"])
    assert_same(a["callbacks"], b["callbacks"])
    assert a["global_step"] == b["global_step"]
    for name in ("metrics.csv", "steps.csv"):
        assert rows(left / name) == rows(right / name)


def assert_same(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a.keys() - SPEED:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_same(left, right, f"{where}[{index}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b or (math.isnan(a) and math.isnan(b)), where


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in SPEED} for row in csv.DictReader(file)
        ]
