"""Packages that only some commands need."""

from __future__ import annotations

from importlib.util import find_spec

from nequip.errors import ConfigError


def need(*packages: str, extra: str) -> None:
    """Raises ConfigError if one of them is not installed, with how to install it."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"this needs {', '.join(missing)}, not installed: pip install 'e3forge[{extra}]', and try again."
        )
