"""The order of an epoch, made while it is used: what is in memory does not grow with the data set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nequip.data.neighbors import IntArray

# A set of up to WINDOW frames is shuffled as a whole. A larger one is cut into blocks that are read from
# about the same place; 128 blocks from anywhere make up a window, whose frames are shuffled.
WINDOW, BLOCK = 1 << 16, 1 << 9


def shuffled(number: int, generator: np.random.Generator) -> Iterator[IntArray]:
    """The numbers below `number`, each once, window by window."""
    if number <= WINDOW:
        yield generator.permutation(number)
        return
    blocks = generator.permutation(-(-number // BLOCK))
    for start in range(0, len(blocks), WINDOW // BLOCK):
        first = blocks[start : start + WINDOW // BLOCK] * BLOCK
        window = (first[:, None] + np.arange(BLOCK)).reshape(-1)
        yield generator.permutation(window[window < number])


def in_order(number: int) -> Iterator[IntArray]:
    """The same numbers, ascending."""
    for start in range(0, number, WINDOW):
        yield np.arange(start, min(start + WINDOW, number))
