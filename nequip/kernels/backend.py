"""Which implementation of a kernel runs: chosen by name and device, never silently."""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec
from typing import Literal, NamedTuple, get_args

from nequip.errors import KernelError, did_you_mean
from nequip.kernels.native.compiler import find_compiler, instruction_set

Backend = Literal["auto", "reference", "compiled", "cpu", "triton"]

logger = logging.getLogger(__name__)


class Choice(NamedTuple):
    """A backend that runs here, and why it was taken."""

    name: Backend
    why: str


@cache
def choose(requested: Backend, device: str) -> Choice:
    """The backend for tensors on `device` ("cpu", "cuda", ...).

    Raises:
        KernelError: when the one that was asked for cannot run there.
    """
    if requested not in get_args(Backend):
        near = did_you_mean(requested, get_args(Backend))
        raise KernelError(
            f"there is no backend {requested!r}{near}: choose one of {', '.join(get_args(Backend))}."
        )
    if requested == "auto":
        choice = _fastest(device)
        logger.info("kernels on %s: backend %s, %s", device, *choice)
        return choice
    if requested == "cpu":
        if device != "cpu":
            raise KernelError(
                f"backend cpu cannot run on tensors on {device}: choose triton or auto, or move the model."
            )
        find_compiler()
    if requested == "compiled" and device == "cpu":
        find_compiler()
    elif requested in ("triton", "compiled"):
        _require_triton(requested, device)
    return Choice(requested, "as asked")


def _require_triton(requested: Backend, device: str) -> None:
    if find_spec("triton") is None:
        raise KernelError(
            f"backend {requested} needs the package triton, which is not installed: install it."
        )
    if device == "cpu":
        from triton import knobs

        if not knobs.runtime.interpret:
            raise KernelError(
                "backend triton cannot run on a CPU but in Triton's interpreter: choose cpu or auto."
            )


def _fastest(device: str) -> Choice:
    if device == "cpu":
        from nequip.kernels.native.library import load_operators  # here: torch is not needed for the names

        try:
            load_operators()
        except KernelError as error:
            return Choice("reference", f"since {error}")
        return Choice("cpu", f"C++ for {instruction_set()} by {find_compiler().version}")
    if find_spec("triton") is not None:
        return Choice("triton", "its kernels are the fastest on a GPU")
    return Choice("reference", "since the package triton is not installed: install it for speed")
