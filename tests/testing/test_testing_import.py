"""nequip.testing is an extra, and says so where it is missing."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["pytest", "hypothesis"])
def test_a_missing_package_is_named_in_one_sentence(monkeypatch, package):
    for module in [name for name in sys.modules if name.startswith("nequip.testing")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError) as caught:
        importlib.import_module("nequip.testing")
    assert str(caught.value) == ("nequip.testing needs pytest and hypothesis: pip install 'e3forge[test]'.")


def test_the_package_itself_imports_neither():
    command = (
        "import sys, nequip, nequip.interop, nequip.model.nequip; "
        "assert not {'pytest', 'hypothesis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", command], check=True)
