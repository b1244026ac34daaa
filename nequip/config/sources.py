"""Which file and line, or which word of the command line, a key of a configuration comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from nequip.config.explain import KeyPath

GLOBAL_PACKAGE = "# @package _global_"


@dataclass(frozen=True)
class Sources:
    """What a configuration was composed of: the first that names a key is where its value comes from."""

    words: tuple[tuple[str, ...], ...]  # keys set on the command line
    files: tuple[tuple[Path, tuple[str, ...]], ...]  # each with the section that it fills

    def of(self, path: KeyPath) -> str:
        """`" [config.yaml:7]"`, `" [command line]"`, or the first file where none names the key."""
        for word in self.words:
            if path[: len(word)] == word[: len(path)]:
                return " [command line]"
        for file, section in self.files:
            if path[: len(section)] == section and (line := line_of(file, path[len(section) :])):
                return f" [{readable(file)}:{line}]"
        return f" [{readable(self.files[0][0])}]"


def section_of(file: Path, group: str) -> tuple[str, ...]:
    """The section that a file of a group fills: the group's, or with Hydra's header the root."""
    return () if file.read_text(encoding="utf-8").startswith(GLOBAL_PACKAGE) else (group,)


def readable(file: Path) -> Path:
    """The path as short as it can be written here."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def line_of(file: Path, path: KeyPath) -> int | None:
    """The line of a YAML file where a key stands, None where it does not."""
    node, line = yaml.compose(file.read_text(encoding="utf-8")), None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = (node.value[part], node.value[part])
        else:
            found = None
        if found is None:
            return None
        key, node = found
        line = key.start_mark.line + 1
    return line
