"""Tensors, arrays and containers from what a pickle says of them: pure functions of checked values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nequip.errors import CheckpointError
from nequip.interop.archives.pickled import Global, Rebuilders, Record, hashable

_STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class _Storage:
    """The numbers that one or more tensors are views of."""

    values: torch.Tensor  # in a row


# The packages whose objects lie in files of models, and a function by which torch's functions are named.
RECORDED = frozenset(
    {
        *("torch", "numpy", "collections", "pathlib", "omegaconf", "lightning", "pytorch_lightning"),
        *("nequip", "allegro", "e3nn", "mace", "sevenn", "ase"),
        "__torch__",  # modules of TorchScript
        *("builtins.getattr", "__builtin__.getattr", "builtins.slice", "__builtin__.slice"),
        *("builtins.complex", "__builtin__.complex"),
    }
)


# The bytes of the storage with some key.
FetchStorage = Callable[[str], bytes]


def rebuilders(fetch: FetchStorage) -> Rebuilders:
    """What stands in for the makers of tensors and containers, with storages from `fetch`."""
    storages: dict[str, _Storage] = {}

    def persistent(reference: Any) -> _Storage:
        key, dtype, count = storage_reference(reference)
        if key not in storages:
            storages[key] = _storage(fetch(key), dtype, count, key)
        return storages[key]

    return Rebuilders(_MADE, _COMPLETED, persistent, RECORDED)


def storage_reference(reference: Any) -> tuple[str, torch.dtype, int]:
    """Key, type and count of numbers in a reference to a storage, which lies outside of a pickle."""
    if not isinstance(reference, tuple) or reference[:1] != ("storage",) or len(reference) not in (5, 6):
        raise CheckpointError("its pickle refers to something that is no storage of a tensor")
    _, kind, key, _, count = reference[:5]
    if not isinstance(kind, Global) or kind.name not in _STORAGES:
        raise CheckpointError("its pickle refers to a storage of an unknown type")
    if not isinstance(key, str) or not isinstance(count, int):
        raise CheckpointError("its pickle refers to a storage without a name or a size")
    return key, _STORAGES[kind.name], count


def _storage(content: bytes, dtype: torch.dtype, count: int, key: str) -> _Storage:
    if len(content) != count * dtype.itemsize:
        raise CheckpointError(f"its storage {key} has {len(content)} bytes, but {count} numbers are said")
    if count == 0:
        return _Storage(torch.empty(0, dtype=dtype))
    return _Storage(torch.frombuffer(bytearray(content), dtype=dtype))


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    if not isinstance(storage, _Storage):
        raise TypeError("a tensor without a storage")
    available = storage.values.numel()
    count = 1
    for length in size:
        count *= length
    # a stride of zero would let a few bytes stand for any amount of memory
    if min(size, default=1) < 0 or count > available:
        raise CheckpointError(f"a tensor of shape {tuple(size)} is said to lie in {available} numbers")
    try:
        return torch.as_strided(storage.values, size, stride, offset)
    except RuntimeError as error:
        raise CheckpointError(f"a tensor of shape {tuple(size)} does not fit its storage") from error


def _parameter(data: Any, *_: Any) -> torch.Tensor:
    if not isinstance(data, torch.Tensor):
        raise TypeError("a parameter without a tensor")
    return data


def _mapping(given: Any = (), *_: Any) -> dict[Any, Any]:
    if isinstance(given, (dict, Global)):
        return dict(given) if isinstance(given, dict) else {}  # a defaultdict names its factory
    return {hashable(key): value for key, value in given}


def _set(values: Any = ()) -> set[Any]:
    return {hashable(value) for value in values}


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """How old protocols write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


def _dtype(record: Any) -> np.dtype[Any]:
    """Of numpy, where it is one of plain numbers."""
    if isinstance(record, Record) and record.maker == "numpy.dtype" and isinstance(record.state, tuple):
        code, order = record.args[0], record.state[1]
        if isinstance(code, str) and re.fullmatch(r"[biufc]\d{1,2}", code) and order in ("<", ">", "|", "="):
            return np.dtype(code).newbyteorder(order)
    raise CheckpointError("its pickle holds a numpy array that is not made of plain numbers")


def _scalar(dtype: Any, content: Any) -> Any:
    (value,) = np.frombuffer(content, dtype=_dtype(dtype))
    return value.item()


def _array(record: Record) -> Any:
    _, shape, dtype, fortran, content = record.state
    return np.frombuffer(content, dtype=_dtype(dtype)).reshape(shape, order="F" if fortran else "C").copy()


def _named(
    modules: tuple[str, ...], name: str, function: Callable[..., Any]
) -> dict[str, Callable[..., Any]]:
    return {f"{module}.{name}": function for module in modules}


_BUILTINS = ("builtins", "__builtin__")
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_MADE: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": tuple,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "_codecs.encode": _encoded,
    **_named(_BUILTINS, "set", _set),
    **_named(_NUMPY, "scalar", _scalar),
}
_COMPLETED = _named(_NUMPY, "_reconstruct", _array)
