"""The order of an epoch: every frame once, decided by the seed alone, mixed, in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from nequip.data.order import BLOCK, WINDOW, in_order, shuffled


def order(number: int, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(shuffled(number, np.random.default_rng(seed))))


@pytest.mark.parametrize("number", [0, 1, 1000, WINDOW, WINDOW + 1, 3 * WINDOW + 77])
def test_every_number_comes_once(number):
    assert np.array_equal(np.sort(order(number)), np.arange(number))
    assert np.array_equal(np.concatenate([np.zeros(0), *in_order(number)]), np.arange(number))


@pytest.mark.parametrize("number", [1000, 3 * WINDOW + 77])
def test_the_seed_decides(number):
    assert np.array_equal(order(number), order(number))
    assert not np.array_equal(order(number), order(number, seed=1))


def test_a_small_set_is_shuffled_as_a_whole():
    assert np.array_equal(order(1000, 5), np.random.default_rng(5).permutation(1000))


def test_a_window_of_a_large_set_has_blocks_from_everywhere():
    number = 16 * WINDOW
    window = next(shuffled(number, np.random.default_rng(0)))
    assert len(window) == WINDOW
    assert len(np.unique(window // BLOCK)) == WINDOW // BLOCK
    assert all(
        len(part) for part in np.split(np.sort(window), np.searchsorted(np.sort(window), [number // 2]))
    )
    # Within the window, too: neighbors in the order are hardly ever neighbors in the set.
    assert (np.abs(np.diff(window)) < BLOCK).mean() < 0.02


def test_memory_is_that_of_a_window():
    tracemalloc.start()
    for _ in shuffled(100 * WINDOW, np.random.default_rng(0)):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 8 * WINDOW  # bytes; a permutation of all takes 100 * 8 * WINDOW
