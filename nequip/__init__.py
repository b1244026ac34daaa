"""Machine-learned interatomic potentials with E(3) symmetry.

`nequip.load(path)` gives a potential from a file. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nequip.version import VERSION as __version__

if TYPE_CHECKING:
    from nequip.interop import load

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `import nequip` and `--help` must not.
    if name == "load":
        from nequip.interop import load

        return load
    raise AttributeError(f"module 'nequip' has no attribute {name!r}")
