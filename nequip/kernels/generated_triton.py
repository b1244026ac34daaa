"""Triton kernels from text that is written for a specification: how they are loaded and launched."""

from __future__ import annotations

import linecache
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import torch

from nequip.errors import KernelError
from nequip.typing import Tensor

Order = Literal["first", "second"]  # of the derivatives
Dtype = Literal["float32", "float64"]

_DTYPES: dict[torch.dtype, Dtype] = {torch.float32: "float32", torch.float64: "float64"}


class KernelSource(NamedTuple):
    """The text of the kernel `name`, a module; `units` is how many programs share one piece of work."""

    name: str
    text: str
    units: int


class Kernel(NamedTuple):
    """A kernel as Triton's `jit` returns it."""

    function: Any
    units: int


def dtype_name(dtype: torch.dtype) -> Dtype:
    """What Triton calls it.

    Raises:
        KernelError: for a dtype other than float32 and float64.
    """
    if dtype not in _DTYPES:
        raise KernelError(
            f"backend triton computes in float32 and float64, not in {dtype}: convert the model."
        )
    return _DTYPES[dtype]


def load(source: KernelSource) -> Kernel:
    """Run the text as a module. Triton asks `linecache` for the source of its functions."""
    filename = f"<{source.name} {sha256(source.text.encode()).hexdigest()[:16]}>"
    linecache.cache[filename] = (len(source.text), None, source.text.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(source.text, filename, "exec"), namespace)
    return Kernel(namespace[source.name], source.units)


def launch(kernel: Kernel, grid: tuple[int, ...], arguments: dict[str, Tensor | int]) -> None:
    """Give a kernel those arguments that it names; a program is one warp."""
    if kernel.units == 0:  # no paths, hence nothing to write
        return
    given: dict[str, Any] = {}
    for name in kernel.function.arg_names:
        value = arguments[name]
        given[name] = value.contiguous() if isinstance(value, Tensor) else value
    device = next(value.device for value in arguments.values() if isinstance(value, Tensor))
    with torch.accelerator.device_index(device.index):
        torch.library.wrap_triton(kernel.function)[grid](**given, num_warps=1)


def distinct(names: Iterable[str]) -> list[str]:
    """Each name once, in the order of its first place."""
    return list(dict.fromkeys(names))


def indent(lines: Iterable[str]) -> list[str]:
    """Lines of a body."""
    return [f"    {line}" if line else line for line in lines]
