"""How far a long pass has come: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], label: str, total: int | None = None, every: float = 10.0) -> Iterator[T]:
    """`items`, with their count shown on the standard error stream.

    A bar appears after a second; without a terminal, a line every `every` seconds.
    """
    if sys.stderr.isatty():
        yield from tqdm(items, label, total, unit=" frames", delay=1.0, leave=False)
        return
    start = last = time.monotonic()
    of_all = "" if total is None else f" of {total}"
    for count, item in enumerate(items):
        now = time.monotonic()
        if now - last >= every:
            print(f"{label}: {count}{of_all} frames, {now - start:.0f} s", file=sys.stderr, flush=True)
            last = now
        yield item
