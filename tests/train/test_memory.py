from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from nequip.data.frame import Frame
from nequip.data.sources.store import write_shard

NUM_FRAMES = 100_000


@pytest.fixture
def large_set(tmp_path: Path) -> Path:
    """An HDF5 set of three-atom molecules."""
    rng = np.random.default_rng(0)
    corner = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    positions = corner + rng.normal(0, 0.05, (NUM_FRAMES, 3, 3))
    numbers = np.array([29, 1, 1])
    frames = [Frame(numbers, each, energy=-1.0, forces=each - corner) for each in positions]
    path = tmp_path / "large.h5"
    write_shard(path, frames, [])
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat_on_a_set_of_100_000_frames(large_set, make_config, start_run, tmp_path):
    watch = {
        "_target_": "saboteurs.WatchMemory",
        "file": str(tmp_path / "memory.json"),
        "interval": 25,
        "steps": 300,
    }
    data = {
        "file": str(large_set),
        "split": {"train": NUM_FRAMES - 100, "val": 100},
        "batch": {"size": 50},
        "cache_dir": str(tmp_path / "cache"),
    }
    process = start_run(make_config(data=data, extensions={"callbacks": [watch]}))
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    seen = json.loads((tmp_path / "memory.json").read_text())
    # The frames of these 300 steps alone would fill 30 MB, and all of them 200 MB.
    assert max(seen[4:]) - max(seen[:4]) < 5, seen
