"""Work in other processes: in order, with the sentences of its errors, leaving random numbers alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import torch

from nequip.data.workers import in_workers
from nequip.errors import DataError


def square(number: int) -> int:
    return number**2


def refuse(number: int) -> int:
    raise DataError(f"{number} is not liked.")


def fail(number: int) -> int:
    raise RuntimeError("a bug of ours")


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_results_come_in_the_order_of_the_jobs(num_workers):
    assert list(in_workers(square, range(20), num_workers)) == [number**2 for number in range(20)]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_mistakes_of_users_keep_their_one_sentence(num_workers):
    with pytest.raises(DataError) as caught:
        list(in_workers(refuse, [7], num_workers))
    assert str(caught.value) == "7 is not liked."


@pytest.mark.parametrize("num_workers", [0, 1])
def test_bugs_stay_what_they_are(num_workers):
    with pytest.raises(RuntimeError, match="a bug of ours"):
        list(in_workers(fail, [1], num_workers))


def test_a_worker_that_is_killed_is_told_in_one_sentence():
    with pytest.raises(DataError, match=r"a worker was killed, .*the same command goes on"):
        list(in_workers(die, [1], 1))


def test_jobs_are_taken_as_they_are_needed():
    taken = []

    def jobs() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    next(in_workers(square, jobs(), 2))
    assert len(taken) <= 6


def test_random_numbers_of_the_process_are_left_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    list(in_workers(square, range(3)))
    assert torch.equal(before, torch.random.get_rng_state())
