"""The archive of a compiled potential: what is in it beside torch's package, written and read."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from nequip.errors import CheckpointError
from nequip.export.card import FORMAT, ArtefactCard
from nequip.version import VERSION

FOLDER = "nequip"
CARD = "card.json"


def is_artefact(path: str | Path) -> bool:
    """Whether a file is a package of AOTInductor, ours or another one: by content, not by name."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/data/aotinductor/" in name for name in archive.namelist())


def add_to_package(package: Path, card: ArtefactCard, files: Mapping[str, bytes]) -> None:
    """Put the card and `files`, by their names in it, into the folder of ours in a package of torch."""
    with zipfile.ZipFile(package, "a") as archive:
        folder = _root(archive) + FOLDER
        archive.writestr(f"{folder}/{CARD}", card.model_dump_json(indent=1))
        for name, content in files.items():
            archive.writestr(f"{folder}/{name}", content)


def read_card(path: str | Path) -> ArtefactCard:
    """The card of a compiled potential; nothing in the file is run.

    Raises:
        CheckpointError: for a file that is not ours, cut short, damaged, or of a newer version.
    """
    with _open(Path(path)) as archive:
        damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"{path} is damaged ({damaged} is not what was written): copy it again.")
        try:
            text = archive.read(f"{_root(archive)}{FOLDER}/{CARD}")
        except KeyError:
            raise CheckpointError(
                f"{path} is a package of AOTInductor, but not one of ours: write it with nequip-compile."
            ) from None
    try:
        return ArtefactCard.model_validate_json(text)
    except ValidationError as error:
        version = _format(text)
        if version > FORMAT:
            raise CheckpointError(
                f"{path} has format {version}, and this e3forge {VERSION} reads up to {FORMAT}: install a "
                "newer e3forge."
            ) from None
        raise CheckpointError(f"{path}: its card cannot be read ({error}).") from error


def extract(path: str | Path, name: str, folder: Path) -> Path:
    """Write one of our files of the archive below `folder`."""
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with _open(Path(path)) as archive:
        target.write_bytes(archive.read(f"{_root(archive)}{FOLDER}/{name}"))
    return target


def _open(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}; check the path.")
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path} is no compiled potential, or it was cut short ({error}): write it again with "
            "nequip-compile."
        ) from None


def _root(archive: zipfile.ZipFile) -> str:
    """The folder that torch puts everything into."""
    return archive.namelist()[0].partition("/")[0] + "/"


def _format(text: bytes) -> int:
    try:
        return int(json.loads(text)["format"])
    except (KeyError, TypeError, ValueError):
        return 0
