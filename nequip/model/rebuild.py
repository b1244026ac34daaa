"""A potential built again for other types of atoms and other readouts, with the weights it has.

What it knows keeps its numbers: energies of structures of known types do not change. A new type starts as a
copy of the known element most like it, a new head as a copy of the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any, NamedTuple

import torch
from ase.data import atomic_numbers

from nequip.errors import ModelError
from nequip.model.axes import Axis, Over
from nequip.model.card import ModelCard
from nequip.model.checkpoint import build_from_card, convert
from nequip.model.cutoffs import resolve_cutoffs
from nequip.model.potential import Potential
from nequip.model.registry import get_architecture
from nequip.typing import Int, Tensor

_NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)


def rebuild(potential: Potential, type_names: Sequence[str], heads: Sequence[str] | None = None) -> Potential:
    """A copy for `type_names` and `heads`, in their order; by default the heads that it has.

    Raises:
        ModelError: for an architecture that does not say which of its weights belong to types or heads.
        ConfigError: for names that the architecture does not take.
    """
    heads = potential.heads if heads is None else heads
    if len(heads) > 1 and not potential.card.config.get("heads"):
        raise ModelError(f"{potential.card.architecture} has one readout, no heads.")
    if tuple(type_names) == potential.card.type_names and tuple(heads) == potential.heads:
        return convert(potential)
    weights = _gathered_weights(potential, type_names, heads)
    copy = build_from_card(retyped_card(potential.card, type_names, heads), potential.backend)
    _check_shapes(potential.card.architecture, weights, copy.state_dict())
    copy.load_state_dict(weights)
    copy.predict_derivatives = potential.predict_derivatives
    device = next(potential.parameters()).device
    return copy.to(device).train(potential.training)


def retyped_card(card: ModelCard, type_names: Sequence[str], heads: Sequence[str] | None = None) -> ModelCard:
    """The card of what `rebuild` gives; numbers for a type or a head are those of its source."""
    types = _sources(type_names, card.type_names)
    config = {**_regathered(card.config, types, card.type_names), "type_names": list(type_names)}
    if heads is not None and card.config.get("heads"):
        readouts = {head: _like_head(head, card.config["heads"]) for head in heads}
        config = {**_regathered(config, readouts, card.config["heads"]), "heads": list(heads)}
    resolved = get_architecture(card.architecture).config.model_validate(config)
    update = {
        "config": config,
        "type_names": tuple(type_names),
        "per_edge_type_cutoff": resolve_cutoffs(resolved).per_edge_type,
    }
    return card.model_copy(update=update)


def most_similar(name: str, known: Sequence[str]) -> str:
    """The nearest of `known` in the group of `name`, or where there is none the nearest by atomic number."""
    number, column = atomic_numbers[name], _column(atomic_numbers[name])

    def distance(other: str) -> tuple[bool, int]:
        return _column(atomic_numbers[other]) != column, abs(atomic_numbers[other] - number)

    return min(known, key=distance)


def _column(number: int) -> int:
    """The same for elements of a group: counted from the noble gas before (s block) or after (the others)."""
    last = next(gas for gas in _NOBLE_GASES if gas >= number)
    first = max((gas for gas in _NOBLE_GASES if gas < number), default=0)
    return number - first if number - first <= 2 and number != last else number - last


def _sources(names: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    return {name: name if name in known else most_similar(name, known) for name in names}


def _like_head(head: str, known: Sequence[str]) -> str:
    return head if head in known else known[0]


def _regathered(tree: Any, sources: Mapping[str, str], known: Sequence[str]) -> Any:
    """Every mapping whose keys are known names gets the new ones, each with the value of its source."""
    if not isinstance(tree, dict):
        return tree
    children = {key: _regathered(value, sources, known) for key, value in tree.items()}
    if not children or not children.keys() <= set(known):
        return children
    return {name: children[source] for name, source in sources.items() if source in children}


class _Gather(NamedTuple):
    """Which old slices the new ones are, and how many old ones there are."""

    sources: Int[Tensor, " new"]
    num_old: int


def _gathered_weights(
    potential: Potential, type_names: Sequence[str], heads: Sequence[str]
) -> dict[str, torch.Tensor]:
    known, readouts = potential.card.type_names, potential.heads
    types = torch.tensor([known.index(source) for source in _sources(type_names, known).values()])
    pairs = (types.unsqueeze(1) * len(known) + types.unsqueeze(0)).flatten()
    gathers: dict[Over, _Gather] = {
        "types": _Gather(types, len(known)),
        "pairs": _Gather(pairs, len(known) ** 2),
        "heads": _Gather(
            torch.tensor([readouts.index(_like_head(h, readouts)) for h in heads]), len(readouts)
        ),
    }
    axes = potential.weight_axes()
    weights: dict[str, torch.Tensor] = {}
    for key, value in potential.state_dict().items():
        weights[key] = value
        for axis in axes.get(key, ()):
            weights[key] = _gathered(weights[key], axis, gathers[axis.over])
    return weights


def _gathered(weight: torch.Tensor, axis: Axis, gather: _Gather) -> torch.Tensor:
    slices = weight.unflatten(axis.dim, (gather.num_old, -1))
    taken = slices.index_select(axis.dim, gather.sources.to(weight.device)).flatten(axis.dim, axis.dim + 1)
    number = len(gather.sources)
    return taken * sqrt(number / gather.num_old) if axis.divided and number != gather.num_old else taken


def _check_shapes(architecture: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    for key, weight in wanted.items():
        if key not in given or given[key].shape != weight.shape:
            raise ModelError(
                f"{architecture} does not tell how {key} depends on types and heads: "
                "it keeps its elements and heads."
            )
