from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator

from nequip.data.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def slowly(count: int, seconds: float) -> Iterator[int]:
    for number in range(count):
        time.sleep(seconds)
        yield number


def test_lines_are_told_without_a_terminal(capsys):
    assert list(progress(range(3), "counting", 3, every=0.0)) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines()[-1] == "counting: 2 of 3 frames, 0 s"


def test_a_short_pass_tells_nothing(capsys):
    list(progress(range(3), "counting", 3))
    assert capsys.readouterr().err == ""


def test_a_bar_is_drawn_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(progress(slowly(3, 0.6), "counting", 3)) == [0, 1, 2]
    assert "counting:" in sys.stderr.getvalue()
    assert "2/3" in sys.stderr.getvalue()
