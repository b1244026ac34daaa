"""Saved potentials: the same numbers back, and one sentence for a file that cannot give them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

import nequip
from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import CheckpointError, NequIPError
from nequip.model.nequip import NequIPConfig
from nequip.model.potential import Potential
from nequip.model.registry import build_potential

FROZEN = sorted((Path(__file__).parent / "frozen").glob("*.nequip"))


def small(**changes: object) -> Potential:
    keys = {"num_layers": 2, "num_features": 4, "radial_mlp_width": 8, "seed": 1}
    statistics = {"avg_num_neighbors": 5.0, "per_type_energy_scales": 2.0, "per_type_energy_shifts": -1.0}
    config = NequIPConfig.model_validate(
        {"type_names": ("H", "O"), "r_max": 3.0, **keys, **statistics, **changes}
    )
    return build_potential(config).eval()


def water(potential: Potential) -> AtomicGraph:
    positions = [[0.0, 0.0, 0.0], [0.96, 0.1, 0.0], [-0.2, 0.9, 0.1]]
    frame = Frame(torch.tensor([8, 1, 1]).numpy(), torch.tensor(positions, dtype=torch.float64).numpy())
    return build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loaded_equals_saved_bit_for_bit(tmp_path, dtype):
    potential = small(dtype=dtype)
    potential.save(tmp_path / "x.nequip")
    loaded = nequip.load(tmp_path / "x.nequip")
    for before, after in zip(potential(water(potential)), loaded(water(loaded)), strict=True):
        assert (before is None) == (after is None)
        assert before is None or torch.equal(before.nan_to_num(), after.nan_to_num())
    assert loaded.card.versions["torch"] == torch.__version__
    assert not loaded.training


def test_a_file_can_be_read_in_another_precision(tmp_path):
    small().save(tmp_path / "x.nequip")
    single, double = (nequip.load(tmp_path / "x.nequip", dtype=d) for d in ("float32", "float64"))
    assert double.card.dtype == "float64"
    torch.testing.assert_close(
        single(water(single)).forces, double(water(double)).forces, atol=1e-4, rtol=1e-4
    )
    converted = single.to_dtype("float64")
    assert torch.equal(converted(water(converted)).forces, double(water(double)).forces)


@pytest.mark.parametrize("path", FROZEN, ids=lambda path: path.stem)
def test_frozen_examples_load_for_ever(path):
    """Files as older versions wrote them give the numbers that they gave then."""
    potential = nequip.load(path)
    expected = json.loads(path.with_suffix(".json").read_text())
    prediction = potential(water(potential))
    assert prediction.energy.tolist() == pytest.approx(expected["energy"], abs=1e-10)
    assert prediction.forces.flatten().tolist() == pytest.approx(expected["forces"], abs=1e-10)


def test_there_are_frozen_examples():
    assert FROZEN


def _header(path: Path, **changes: str) -> None:
    """Write the file again with another header."""
    with safetensors.safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, header | changes)


def _card(path: Path, **changes: object) -> None:
    with safetensors.safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["card"])
    _header(path, card=json.dumps(card | changes))


BAD_FILES = {
    "missing": (lambda path: path.unlink(), "no file"),
    "text": (lambda path: path.write_text("hello"), "not a saved potential"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cut short"),
    "foreign": (lambda path: _header(path, format="other"), "no potential of ours"),
    "newer": (lambda path: _header(path, version="99"), "install a newer e3forge"),
    "broken card": (lambda path: _header(path, card="{"), "card cannot be read"),
    "unknown architecture": (lambda path: _card(path, architecture="nequipp"), "did you mean 'nequip'"),
}


@pytest.mark.parametrize(("spoil", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_are_refused_in_one_sentence(tmp_path, spoil, words):
    path = tmp_path / "x.nequip"
    small().save(path)
    spoil(path)
    with pytest.raises(NequIPError, match=words) as caught:
        nequip.load(path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_shape_are_named(tmp_path):
    path = tmp_path / "x.nequip"
    small().save(path)
    tensors = safetensors.torch.load_file(path)
    tensors["readout.weights.0"] = torch.zeros(3, 3)
    with safetensors.safe_open(path, framework="pt") as file:
        header = file.metadata()
    safetensors.torch.save_file(tensors, path, header)
    with pytest.raises(CheckpointError, match=r"readout\.weights\.0 is \(3, 3\)"):
        nequip.load(path)


def test_a_full_disk_leaves_the_previous_file_whole(tmp_path):
    path = tmp_path / "x.nequip"
    small().save(path)
    before = path.read_bytes()
    script = (
        "import resource, sys, nequip\n"
        "from nequip.errors import CheckpointError\n"
        "potential = nequip.load(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try:\n    potential.save(sys.argv[1])\n"
        "except CheckpointError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.nequip"]
