"""Fixtures that tests of every part share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data (`shared/data`), with `golden` and `pretrained` beside it."""
    folder = os.environ.get("NEQUIP_DATA_DIR")
    if not folder:
        pytest.skip("NEQUIP_DATA_DIR is not set: it names the folder with the reference data sets")
    path = Path(folder).resolve()
    assert path.is_dir(), f"NEQUIP_DATA_DIR={folder} is not a folder"
    return path
