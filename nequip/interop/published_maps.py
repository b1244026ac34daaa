"""Pieces that importers of NequIP-shaped models share: paths, flat matrices and networks in another order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any, NoReturn, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from nequip.errors import CheckpointError
from nequip.kernels.tensor_product import Path, TensorProductSpec
from nequip.nn.gate import SILU_SCALE
from nequip.o3 import Irrep, Irreps
from nequip.typing import Float, Tensor

Matrices = dict[Irrep, Float[Tensor, "fan_in fan_out"]]
Header = TypeVar("Header", bound=BaseModel)


def validated(header: type[Header], config: Mapping[str, Any], what: str) -> Header:
    """The published configuration, checked.

    Raises:
        CheckpointError: for keys that are missing or have values that we cannot take over.
    """
    try:
        return header.model_validate(dict(config))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise CheckpointError(
            f"the configuration of this {what} model cannot be taken over: {key}: {problem['msg']}."
        ) from error


def sorted_paths(spec: TensorProductSpec, key: Callable[[Irrep], Any] = lambda irrep: irrep) -> list[Path]:
    """Paths in the order of their outputs, stable."""
    return sorted(spec.paths, key=lambda path: key(path.irrep_out))


def columns_of(
    paths: Sequence[Path],
    theirs: TensorProductSpec,
    ours: TensorProductSpec,
    weight: Float[Tensor, "hidden column"],
    sign: Callable[[Path], float] = lambda _: 1.0,
) -> Float[Tensor, "hidden path_channel"]:
    """The last matrix of a radial network with its columns in our order.

    Args:
        paths: those of `theirs` in the order of the columns of `weight`.
        sign: of a path's coupling, relative to ours.

    Raises:
        CheckpointError: where the number of columns is another.
    """
    sizes = [theirs.channels(path) for path in paths]
    if weight.shape[1] != sum(sizes):
        raise CheckpointError(
            f"a radial network gives {weight.shape[1]} weights, but the configuration asks for "
            f"{sum(sizes)}: it is that of another model."
        )
    blocks = dict(zip(paths, weight.split(sizes, dim=1), strict=True))
    return torch.cat([sign(path) * blocks[path] for path in ours.paths], dim=1)


def silu_ratio(theirs: float) -> float:
    """By what features after a gate of `theirs` · silu are larger than after ours."""
    return theirs / SILU_SCALE


def rescaled_network(
    weights: Sequence[Float[Tensor, "in out"]], gain: float, *, divided: bool
) -> list[Float[Tensor, "in out"]]:
    """Matrices of an MLP in the normalisation of ScalarMLP.

    Args:
        gain: what follows each of their activations.
        divided: whether they divide by √in when they compute, as ScalarMLP does.
    """
    rescaled: list[Tensor] = []
    for index, weight in enumerate(weights):
        factor = 1.0 if index == 0 else gain / sqrt(2)
        rescaled.append(weight * (factor if divided else factor * sqrt(weight.shape[0])))
    return rescaled


def parse_irreps(text: str, where: str) -> Irreps:
    """Irreps, each of which occurs once.

    Raises:
        CheckpointError: for anything else.
    """
    try:
        irreps = Irreps(text)
    except ValueError:
        refuse(f"{where} is {text!r}, which are no irreps")
    if not len({irrep for _, irrep in irreps}) == len(irreps) > 0:
        refuse(f"{where} is {text!r}, where no irrep or one twice stands")
    return irreps


def refuse(problem: str) -> NoReturn:
    """Raises CheckpointError."""
    raise CheckpointError(f"this published model cannot be taken over: {problem}.")
