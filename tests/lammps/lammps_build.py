"""The plugin, built once for its sources and kept in the user's cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from one_at_a_time import one_at_a_time

SOURCES = Path(__file__).parents[2] / "lammps_plugin"


def build_plugin(*options: str) -> Path:
    """What CMake makes of the sources with these options."""
    digest = hashlib.sha256("\n".join((version("torch"), version("lammps"), sys.prefix, *options)).encode())
    for file in [SOURCES / "CMakeLists.txt", *sorted((SOURCES / "src").iterdir())]:
        digest.update(file.read_bytes())
    folder = Path.home() / ".cache" / "e3forge" / "lammps" / digest.hexdigest()[:32]
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    assert cmake is not None, "there is no cmake: pip install cmake"
    python = f"-DPython3_EXECUTABLE={sys.executable}"
    with one_at_a_time(folder):
        _run(cmake, "-S", str(SOURCES), "-B", str(folder), python, *options)
        _run(cmake, "--build", str(folder), "--parallel", "2")
    return folder / "nequipplugin.so"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
