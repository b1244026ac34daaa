from __future__ import annotations

import pytest
import torch

from nequip.errors import ModelError
from nequip.model.device import find_device


def test_cpu_is_always_there():
    assert find_device("cpu") == torch.device("cpu")


def test_unknown_name_is_refused_in_a_sentence():
    with pytest.raises(ModelError, match="there is no device 'gpu': give 'cpu', 'cuda'"):
        find_device("gpu")


@pytest.mark.parametrize(
    ("count", "name", "seen"),
    [(0, "cuda", "no GPU"), (1, "cuda:1", "cuda:0"), (2, "cuda:5", "cuda:0, cuda:1")],
)
def test_gpu_that_is_not_there_is_refused(monkeypatch, count, name, seen):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    with pytest.raises(ModelError, match=f"torch sees {seen};"):
        find_device(name)


def test_gpu_that_is_there_is_taken(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda", 1)
