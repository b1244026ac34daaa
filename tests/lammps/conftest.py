from __future__ import annotations

from pathlib import Path

import pytest
from lammps_build import build_plugin


@pytest.fixture(scope="session")
def plugin() -> Path:
    """The plugin for the LAMMPS that is installed."""
    return build_plugin()
