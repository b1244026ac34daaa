"""Features of ghosts, the atoms that another process owns: an operator that whoever runs a model implements.

`nequip::exchange(h, num_atoms)` adds to the rows of owned atoms those of the ghosts; its derivative is its
transpose `nequip::exchange_reverse`, and the other way round. In LAMMPS the plugin implements both by
messages between ranks. Here, in one process, a ghost is a copy of an atom of the same graph: `owners` says
of which.

In a crystal a ghost is an image, and where atoms move as a wave `u exp(i k·R)`, so does all that follows from
it: changes of a ghost are those of its owner times a phase. `Ghosts.phase` puts it into derivatives of
derivatives, so that one cell with its ghosts responds as the whole crystal does (nequip.phonons.bloch).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from nequip.errors import ModelError
from nequip.typing import Complex, Float, Int, Tensor


@dataclass
class Ghosts:
    """Which atoms the ghosts of a graph are copies of.

    With a phase the rows are those of pairs of copies of a cell, real and imaginary parts of a wave.
    """

    owner: Int[Tensor, " ghost"]
    phase: Complex[Tensor, "pair image"] | None = None  # exp(i k·R), which a change of the ghost has ahead

    def copy(self, h: Float[Tensor, "owned column"]) -> Float[Tensor, "ghost column"]:
        """The rows of ghosts."""
        rows = h.index_select(0, self.owner)
        return rows if self.phase is None else _turned(rows, self.phase)

    def add(self, h: Float[Tensor, "owned column"], ghosts: Tensor) -> Float[Tensor, "owned column"]:
        """Rows of ghosts summed onto their owners: the transpose of `copy`."""
        rows = ghosts if self.phase is None else _turned(ghosts, self.phase.conj())
        return h.index_add(0, self.owner, rows)

    @contextmanager
    def waves(self, phase: Complex[Tensor, "pair image"]) -> Generator[None, None, None]:
        """Within: derivatives of what was computed without a phase are those along waves."""
        self.phase = phase
        try:
            yield
        finally:
            self.phase = None


_GHOSTS: ContextVar[Ghosts | None] = ContextVar("ghosts", default=None)


def exchange(h: Float[Tensor, "owned column"], num_atoms: int) -> Float[Tensor, "atom column"]:
    """Rows of owned atoms, then those of ghosts; `h` itself where there are no ghosts.

    Every message-passing model calls this for what a layer gathers from neighbors, in every layer but the
    first, whose features follow from the types alone.

    Raises:
        ModelError: for ghosts outside of `owners`.
    """
    if num_atoms == h.shape[0]:
        return h
    register()
    return torch.ops.nequip.exchange(h, num_atoms)


@contextmanager
def owners(owner: Int[Tensor, " ghost"]) -> Generator[Ghosts, None, None]:
    """Within: ghost number i of every graph is a copy of its owned atom `owner[i]`."""
    ghosts = Ghosts(owner)
    with _within(ghosts):
        yield ghosts


@contextmanager
def _within(ghosts: Ghosts | None) -> Generator[None, None, None]:
    token = _GHOSTS.set(ghosts)
    try:
        yield
    finally:
        _GHOSTS.reset(token)


@cache
def register() -> torch.library.Library:
    """Define the operators, and for this process what they do; a LAMMPS plugin may have defined them first.

    They are gone with the object that is returned, which is kept.
    """
    library = torch.library.Library("nequip", "FRAGMENT")
    for name, schema, function, fake in (
        ("exchange", "(Tensor h, SymInt num_atoms) -> Tensor", _copy_to_ghosts, _resized),
        ("exchange_reverse", "(Tensor grad, SymInt num_owned) -> Tensor", _add_from_ghosts, _resized),
    ):
        if not hasattr(torch.ops.nequip, name):
            library.define(name + schema)
        # behind an implementation for one kind of device, which the plugin brings
        library.impl(name, function, "CompositeExplicitAutograd")
        torch.library.register_fake(f"nequip::{name}", fake, lib=library)
    ops = torch.ops.nequip
    for name, transpose in (("exchange", ops.exchange_reverse), ("exchange_reverse", ops.exchange)):
        torch.library.register_autograd(
            f"nequip::{name}", _backward(transpose), setup_context=_keep, lib=library
        )
    return library


def _copy_to_ghosts(h: Tensor, num_atoms: int) -> Tensor:
    return torch.cat([h, _ghosts(num_atoms - h.shape[0]).copy(h)])


def _add_from_ghosts(grad: Tensor, num_owned: int) -> Tensor:
    owned, ghosts = grad.split([num_owned, grad.shape[0] - num_owned])
    return _ghosts(grad.shape[0] - num_owned).add(owned, ghosts)


def _ghosts(number: int) -> Ghosts:
    ghosts = _GHOSTS.get()
    if ghosts is None or len(ghosts.owner) != number:
        raise ModelError(
            f"the graph has {number} ghosts, of atoms that are not known: compute within "
            "nequip.nn.exchange.owners, which says of each what it is a copy of."
        )
    return ghosts


def _turned(rows: Tensor, phase: Tensor) -> Tensor:
    """`phase` times the pairs of rows as complex numbers."""
    pairs, images = phase.shape
    real, imaginary = rows.reshape(pairs, 2, images, -1).unbind(1)
    cos, sin = (part.to(rows.dtype).unsqueeze(2) for part in (phase.real, phase.imag))
    return torch.stack([cos * real - sin * imaginary, sin * real + cos * imaginary], 1).view_as(rows)


def _resized(x: Tensor, rows: int) -> Tensor:
    return x.new_empty(rows, x.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.rows = inputs[0].shape[0]
    ctx.ghosts = _GHOSTS.get()  # derivatives on a GPU are computed by a thread that has no such variable
    ctx.phase = ctx.ghosts and ctx.ghosts.phase


def _backward(transpose: Callable[[Tensor, int], Tensor]) -> Callable[..., tuple[Tensor, None]]:
    """What was computed with a phase keeps it; the rest takes the one that holds now."""

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        ghosts = ctx.ghosts
        if ctx.phase is not None:
            ghosts = Ghosts(ghosts.owner, ctx.phase)
        with _within(ghosts):
            return transpose(grad, ctx.rows), None

    return backward
