from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nequip.cli.main import COMMANDS

HEAVY = {"torch", "lightning", "pydantic", "hydra", "ase", "matplotlib", "numpy"}


def modules_after(code: str) -> set[str]:
    """Top-level modules loaded once `code` has run in a fresh interpreter."""
    code = (
        f"import json, sys\n{code}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    assert not modules_after("import nequip") & HEAVY


@pytest.mark.parametrize("argv", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_loads_nothing_heavy(argv: list[str]):
    code = f"""
from nequip.cli.main import main
try:
    main({argv})
except SystemExit as leaving:
    assert leaving.code == 0
"""
    assert not modules_after(code) & HEAVY


@pytest.mark.parametrize("name", COMMANDS)
def test_help_gives_examples(name: str):
    done = subprocess.run(
        [sys.executable, "-m", "nequip.cli.main", name, "--help"], capture_output=True, text=True, check=True
    )
    assert "examples:" in done.stdout
