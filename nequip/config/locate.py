"""Where configurations lie: the shipped folder, and the file that a name or a path means."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nequip.errors import ConfigError, did_you_mean

EXPERIMENTS = "experiment"


def shipped_configs() -> Path:
    """The folder of shipped groups: inside an installed package, at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def config_names(folder: Path) -> list[str]:
    """Names that `named_config` finds in a folder: its files, then its experiments."""
    return _stems(folder) + _stems(folder / EXPERIMENTS)


def named_config(name: str, folder: Path | None = None) -> Path:
    """The file of a name such as `ethanol` or `experiment/ethanol`, in `folder` or shipped.

    Raises:
        ConfigError: no such folder, or no such name in it.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}{did_you_mean(folder.name, _siblings(folder))}.")
    root = shipped_configs() if folder is None else folder
    stem = name.removesuffix(".yaml")
    for file in (root / f"{stem}.yaml", root / EXPERIMENTS / f"{stem}.yaml"):
        if file.is_file():
            return file.resolve()
    names = config_names(root)
    where = "among the shipped configurations" if folder is None else f"in {folder}"
    hint = did_you_mean(Path(stem).name, names) or f"; there are {', '.join(names) or 'none'}"
    own = f"; for your own file write nequip-train {stem}.yaml" if Path(f"{stem}.yaml").is_file() else ""
    raise ConfigError(f"there is no configuration {name!r} {where}{hint}{own}.")


def config_file(path: Path) -> Path:
    """The YAML file at a path.

    Raises:
        ConfigError: no such file, or one of another kind.
    """
    if not path.is_file():
        near = did_you_mean(path.name, _siblings(path))
        named = path.stem in config_names(shipped_configs())
        shipped = f"; the shipped one is nequip-train -cn {path.stem}" if named else ""
        raise ConfigError(f"there is no configuration file {path}{near}{shipped}.")
    if path.suffix != ".yaml":
        raise ConfigError(f"{path} is not named .yaml, which configuration files have to be.")
    return path.resolve()


def _stems(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml"))


def _siblings(path: Path) -> Iterable[str]:
    return [other.name for other in path.parent.glob("*")]
