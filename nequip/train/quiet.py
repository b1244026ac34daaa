"""Lightning without its chatter: tips, device tables and advice that does not fit graphs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from nequip.train import ranks

_NAMES = ("lightning.pytorch", "lightning.fabric")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Only errors of Lightning come through, and every warning that is not its own.

    In processes beside the first only our errors do: what it says holds for all.
    """
    ours = ("nequip",) if ranks.rank() > 0 else ()
    loggers = [logging.getLogger(name) for name in (*_NAMES, *ours)]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\.")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
