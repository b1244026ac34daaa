"""A potential with a handful of weights that trains in milliseconds, and runs to train it in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from nequip.config.compose import to_yaml
from nequip.config.schema import RunConfig
from nequip.config.validate import validate

# A real installed distribution, as far as importlib.metadata can tell: the registry finds the
# architecture the way it finds every other, in this process and in those that the tests start.
METADATA = "Metadata-Version: 2.1\nName: tiny-pairs\nVersion: 1\n"
ENTRY_POINTS = "[nequip.models]\ntiny_pairs = tiny_pairs:ARCHITECTURE\n"


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on sys.path with the architecture `tiny_pairs` and the callbacks of `saboteurs`."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "tiny_pairs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    for name in ("tiny_pairs.py", "saboteurs.py"):
        shutil.copy(Path(__file__).parent / name, folder)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def structures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty small crystals and molecules of two elements and groups, some labels missing."""
    path = tmp_path_factory.mktemp("frames") / "frames.xyz"
    write(path, [_structure(i) for i in range(30)], format="extxyz")
    return path


def _structure(index: int) -> Atoms:
    rng = np.random.default_rng(index)
    number = 4 + index % 3
    positions = np.indices((2, 2, 2)).reshape(3, -1).T[:number] * 2.5 + rng.normal(0, 0.1, (number, 3))
    periodic = index % 2 == 0
    atoms = Atoms(rng.choice(["Cu", "H"], number), positions, cell=np.eye(3) * 7.0 * periodic, pbc=periodic)
    atoms.info["config_type"] = "crystal" if periodic else "molecule"
    if index % 7:
        atoms.info["REF_energy"] = float(rng.normal(-1.0 * number, 0.1))
    if index % 5:
        atoms.arrays["REF_forces"] = rng.normal(0, 0.5, (number, 3))
    if periodic:
        stress = rng.normal(0, 0.01, (3, 3))
        atoms.info["REF_stress"] = (stress + stress.T) / 2
    return atoms


# What the command line does with a configuration, without its imports.
TRAIN = """
import sys
from nequip.config.validate import validate
from nequip.errors import NequIPError
from nequip.train.run import run_training
import yaml

try:
    run_training(validate(yaml.safe_load(open(sys.argv[1]))))
except NequIPError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""

ConfigMaker = Callable[..., RunConfig]
RunStarter = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def make_config(tiny_package: Path, structures: Path, tmp_path: Path) -> ConfigMaker:
    """A run on the structures; keyword arguments replace whole branches of the configuration."""

    def make(**changes: Any) -> RunConfig:
        tree: dict[str, Any] = {
            "data": {
                "file": str(structures),
                "cache_dir": str(tmp_path / "cache"),
                "split": {"train": 20, "val": 10},
                "batch": {"size": 3, "val_size": 4},
            },
            "trainer": {
                "max_epochs": 4,
                "accelerator": "cpu",
                "logging": {"progress": "off", "every_n_steps": 2},
            },
            "output_dir": str(tmp_path / "run"),
            "seed": 1,
        }
        for name, value in changes.items():
            tree[name] = tree[name] | value if isinstance(tree.get(name), dict) else value
        model = tree.get("model", {})
        fresh = {} if "file" in model else {"name": "tiny_pairs", "r_max": 4.0}
        return validate(tree | {"model": {**fresh, **model}})

    return make


@pytest.fixture
def start_run(tiny_package: Path, tmp_path: Path) -> RunStarter:
    """Start a run in a process of its own, in a process group of its own."""

    def start(config: RunConfig) -> subprocess.Popen[str]:
        file = tmp_path / "run.yaml"
        file.write_text(to_yaml(config))
        return subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(file)],
            env={**os.environ, "PYTHONPATH": str(tiny_package), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start
