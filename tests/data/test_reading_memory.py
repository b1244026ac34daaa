"""Reading a set larger than memory takes no more memory as it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nequip.data.frame import Frame
from nequip.data.sources.store import write_shard

NUM_FRAMES, NUM_ATOMS = 20_000, 10
ALLOWED = 16 * 2**20  # bytes; the graphs of all frames take above 150 MB

READ = """
import sys
from pathlib import Path
import numpy as np, psutil
from nequip.data.batching import BatchLimits, GraphBatchSampler
from nequip.data.dataset import GraphDataset
from nequip.data.loading import make_loader
from nequip.data.neighbors import Cutoffs, TypeMapper
from nequip.data.sources import open_source

path, cache = sys.argv[1], Path(sys.argv[2])
memory = lambda: psutil.Process().memory_info().rss
source = open_source(path)
data = GraphDataset(source, np.arange(len(source)), TypeMapper(["H", "C"]), Cutoffs(5.0), cache_dir=cache)


def measured(batches, steps):
    for step, _ in enumerate(batches):
        if step == steps // 10:
            start = memory()
    print(memory() - start)


measured(data.scan(range(len(data))), len(data))
data.prepare()
sampler = GraphBatchSampler(data, BatchLimits(max_edges=2000))
measured(make_loader(data, sampler), len(sampler))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("memory") / "large.h5"
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3), axis=-1).reshape(-1, 3)[:NUM_ATOMS]
    frames = [
        Frame(
            rng.choice([1, 6], NUM_ATOMS),
            grid + rng.normal(0, 0.05, (NUM_ATOMS, 3)),
            energy=rng.normal(),
            forces=rng.normal(size=(NUM_ATOMS, 3)),
        )
        for _ in range(NUM_FRAMES)
    ]
    write_shard(path, frames, [])
    return path


def test_memory_stays_flat_in_a_pass_over_all_frames_and_in_shuffled_batches(store, tmp_path):
    command = [sys.executable, "-c", READ, str(store), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    scan, shuffled = (int(line) for line in done.stdout.split())
    assert scan < ALLOWED
    assert shuffled < ALLOWED
