"""Weights that training leaves as they are, chosen by patterns of their names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from nequip.errors import ConfigError
from nequip.model.potential import Potential

SHOWN = 3  # names in an error


def freeze(potential: Potential, patterns: Sequence[str]) -> None:
    """Take the weights whose names match any of `patterns` out of training.

    `*` stands for any part of a name, dots included. A pattern also matches what lies below:
    `layers.0` matches `layers.0.linear_in.weights.0e`.

    Raises:
        ConfigError: for a pattern that matches no weight, and where none would be left to train.
    """
    weights = dict(potential.named_parameters())
    for pattern in patterns:
        names = [name for name in weights if any(fnmatchcase(name, p) for p in (pattern, f"{pattern}.*"))]
        if not names:
            raise ConfigError(
                f"train.freeze: {pattern!r} matches no weight of this model; "
                f"the nearest names are {', '.join(_nearest(pattern, list(weights)))}."
            )
        for name in names:
            weights[name].requires_grad_(False)
    if not any(weight.requires_grad for weight in weights.values()):
        raise ConfigError(
            f"train.freeze: {', '.join(patterns)} match every weight: leave some to be trained."
        )


def _nearest(pattern: str, names: list[str]) -> list[str]:
    """Names like `pattern`; whole branches where several weights lie below."""
    branches = list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in names for depth in (1, 2, 9)))
    plain = pattern.replace("*", "")
    return difflib.get_close_matches(plain, branches, SHOWN, cutoff=0.3) or branches[:SHOWN]
