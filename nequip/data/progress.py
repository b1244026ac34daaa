"""How far a long pass has come: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(
    items: Iterable[T],
    label: str,
    total: int | None = None,
    every: float = 10.0,
    *,
    frames: Callable[[T], int] = lambda item: 1,
) -> Iterator[T]:
    """`items`, with the count of their `frames` shown on the standard error stream.

    A bar appears after a second; without a terminal, a line every `every` seconds.
    """
    if sys.stderr.isatty():
        with tqdm(None, label, total, unit=" frames", delay=1.0, leave=False) as bar:
            for item in items:
                yield item
                bar.update(frames(item))
        return
    start = last = time.monotonic()
    of_all = "" if total is None else f" of {total}"
    count = 0
    for item in items:
        now = time.monotonic()
        if now - last >= every:
            print(f"{label}: {count}{of_all} frames, {now - start:.0f} s", file=sys.stderr, flush=True)
            last = now
        yield item
        count += frames(item)
