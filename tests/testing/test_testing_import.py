"""nequip.testing is an extra, and says so where it is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["pytest", "hypothesis"])
def test_a_missing_package_is_named_in_one_sentence(package):
    command = f"import sys; sys.modules[{package!r}] = None; import nequip.testing"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        "ImportError: nequip.testing needs pytest and hypothesis: pip install 'e3forge[test]'."
    )


def test_the_package_itself_imports_neither():
    command = (
        "import sys, nequip, nequip.interop, nequip.model.nequip; "
        "assert not {'pytest', 'hypothesis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", command], check=True)
