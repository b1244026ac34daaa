"""Features of ghosts, the atoms that another process owns: an operator that whoever runs a model implements.

`nequip::exchange(h, num_atoms)` adds to the rows of owned atoms those of the ghosts; its derivative is its
transpose `nequip::exchange_reverse`, and the other way round. In LAMMPS the plugin implements both by
messages between ranks. Here, in one process, a ghost is a copy of an atom of the same graph: `owners` says
of which.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch

from nequip.errors import ModelError
from nequip.typing import Float, Int, Tensor

_OWNERS: ContextVar[Tensor | None] = ContextVar("owners of ghosts", default=None)


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
def owners(owner: Int[Tensor, " ghost"]) -> Generator[None, None, None]:
    """Within: ghost number i of every graph is a copy of its owned atom `owner[i]`."""
    token = _OWNERS.set(owner)
    try:
        yield
    finally:
        _OWNERS.reset(token)


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
            f"nequip::{name}", _backward(transpose), setup_context=_keep_rows, lib=library
        )
    return library


def _copy_to_ghosts(h: Tensor, num_atoms: int) -> Tensor:
    return torch.cat([h, h.index_select(0, _owners_of(num_atoms - h.shape[0]))])


def _add_from_ghosts(grad: Tensor, num_owned: int) -> Tensor:
    owned, ghosts = grad.split([num_owned, grad.shape[0] - num_owned])
    return owned.index_add(0, _owners_of(grad.shape[0] - num_owned), ghosts)


def _owners_of(num_ghosts: int) -> Tensor:
    owner = _OWNERS.get()
    if owner is None or len(owner) != num_ghosts:
        raise ModelError(
            f"the graph has {num_ghosts} ghosts, of atoms that are not known: compute within "
            "nequip.nn.exchange.owners, which says of each what it is a copy of."
        )
    return owner


def _resized(x: Tensor, rows: int) -> Tensor:
    return x.new_empty(rows, x.shape[1])


def _keep_rows(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.rows = inputs[0].shape[0]


def _backward(transpose: Callable[[Tensor, int], Tensor]) -> Callable[..., tuple[Tensor, None]]:
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return transpose(grad, ctx.rows), None

    return backward
