"""Exceptions for mistakes a user can mend: one sentence each, exit code 2 on the command line.

The sentence says what is wrong, where, the nearest right thing, and what to do. `assert` is for our
own invariants; anything else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NequIPError(Exception):
    """Base of everything the user can mend."""

    exit_code = 2


class ConfigError(NequIPError):
    """A configuration key or value is wrong."""


class DataError(NequIPError):
    """A file of structures, a label or a structure itself is wrong."""


class ModelError(NequIPError):
    """A model does not fit what is asked of it (elements, heads, dtype, ...)."""


class KernelError(NequIPError):
    """A kernel cannot run here, or was given arrays it cannot take."""


class CheckpointError(NequIPError):
    """A saved file cannot be read or written."""


class TrainingError(NequIPError):
    """Training cannot go on (NaN loss, out of memory, ...)."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`" (did you mean 'r_max'?)"` for the nearest of `valid`, else an empty string."""
    near = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
