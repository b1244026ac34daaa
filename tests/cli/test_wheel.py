from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("build", reason="building the wheel needs `build` and `hatchling`")
pytest.importorskip("hatchling", reason="building the wheel needs `build` and `hatchling`")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel, as an installation has it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    site = folder / "it's a (site), x=1"  # Hydra's grammar knows most of these characters
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_configurations_are_inside(unpacked: Path):
    shipped = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
    inside = unpacked / "nequip" / "configs"
    assert {path.relative_to(inside) for path in inside.rglob("*.yaml")} == shipped


def test_sample_data_are_inside(unpacked: Path):
    assert (unpacked / "nequip" / "data" / "sample" / "methanol.xyz").stat().st_size > 0


def test_the_ethanol_experiment_composes_without_a_checkout(unpacked: Path, tmp_path: Path):
    code = "import sys, nequip.cli.main as cli; print(cli.__file__, file=sys.stderr); sys.exit(cli.main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "-cn", "ethanol", "--print-config"],
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(unpacked) in done.stderr
    assert "file: set:rmd17_ethanol_train01" in done.stdout
