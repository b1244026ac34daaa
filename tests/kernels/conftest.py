"""Which tests run in Triton's interpreter: a process has to choose it before it imports triton."""

from __future__ import annotations

import os

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Outside the interpreter leave out what needs it, and inside it what Triton has to compile.

    Tests marked "compiled_by_triton" start a process of their own for those marked "interpreted".
    """
    absent = "compiled_by_triton" if os.environ.get("TRITON_INTERPRET") == "1" else "interpreted"
    left_out = [item for item in items if item.get_closest_marker(absent)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
