"""Fixtures that tests of every part share, and which tests run in Triton's interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torch.cuda import is_available as cuda_is_available

if TYPE_CHECKING:
    from small_artefacts import SmallArtefact


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data (`shared/data`), with `golden` and `pretrained` beside it."""
    folder = os.environ.get("NEQUIP_DATA_DIR")
    if not folder:
        pytest.skip("NEQUIP_DATA_DIR is not set: it names the folder with the reference data sets")
    path = Path(folder).resolve()
    assert path.is_dir(), f"NEQUIP_DATA_DIR={folder} is not a folder"
    return path


@pytest.fixture(scope="session")
def artefacts() -> Callable[..., SmallArtefact]:
    """Compiled small potentials: `artefacts("nequip", "float32", "lammps")`; see small_artefacts.py."""
    from small_artefacts import make_artefact  # here, so that tests without it need not wait for its imports

    return make_artefact


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what Triton cannot run here.

    A process has to choose the interpreter before it imports triton: without a GPU, tests marked
    "compiled_by_triton" start a process of their own for those marked "interpreted".
    """
    interpreter, gpu = os.environ.get("TRITON_INTERPRET") == "1", cuda_is_available()
    absent = {"compiled_by_triton": interpreter, "interpreted": not (interpreter or gpu), "gpu": not gpu}
    names = [name for name, is_absent in absent.items() if is_absent]
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in names)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
