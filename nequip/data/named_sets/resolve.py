"""From the name of a data set to the path of a local extxyz file, through a cache."""

from __future__ import annotations

import errno
import json
import logging
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO

from nequip.data.named_sets.catalogue import NamedSet, published_sets
from nequip.data.named_sets.convert import LAYOUTS, open_member, read_rows, write_extxyz
from nequip.data.named_sets.download import (
    Download,
    Progress,
    UnreachableError,
    fetch,
    sweep,
    whole_file,
)
from nequip.errors import DataError, did_you_mean

PREFIX = "set:"
DOWNLOADS = "downloads"  # folder in the cache for files as they were published

# What the readers of archives, arrays and text raise when a file is not what it should be.
_UNREADABLE = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    OSError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)

logger = logging.getLogger(__name__)


def list_named_sets(catalogue: Mapping[str, NamedSet] | None = None) -> list[NamedSet]:
    """All data sets that `resolve_named_set` knows, to be shown to a user.

    Each has `name`, `frames`, `elements`, `level`, `licence` and `size` (bytes to download; None:
    unknown).
    """
    return list((published_sets() if catalogue is None else catalogue).values())


def resolve_named_set(
    name: str,
    cache_dir: Path,
    *,
    catalogue: Mapping[str, NamedSet] | None = None,
    progress: Progress | None = None,
    timeout: float = 60.0,
) -> Path:
    """The extxyz file (eV, Å) of the data set `name`; downloaded and converted if it is not there.

    The file is `<cache_dir>/<name>.xyz`; once it is there, no network is needed. Beside it lies
    `<name>.json` with its origin, and `downloads/` holds what was published, for other sets in the
    same archive; it may be deleted.

    Args:
        name: with or without the prefix `set:`.
        cache_dir: made if it is missing.
        catalogue: which sets there are; the published ones by default.
        progress: called with the bytes so far and in all while a file arrives.
        timeout: seconds without a byte after which a server counts as unreachable.

    Raises:
        DataError: no such set, no network, wrong checksum, disk full, or a file that is not what
            the catalogue says; the sentence tells what to do.
    """
    catalogue = published_sets() if catalogue is None else catalogue
    name = name.removeprefix(PREFIX)
    if name not in catalogue:
        raise DataError(
            f"There is no data set {name!r}{did_you_mean(name, catalogue)}: `nequip-data sets`"
            " lists them, and data.file also takes the path of a file."
        )
    entry = catalogue[name]
    if entry.packaged:
        return _packaged(entry)
    path = cache_dir / f"{name}.xyz"
    if path.is_file():
        return path
    elsewhere = f"pass data.file=PATH, or put an extxyz file (eV, Å) at {path}"
    try:
        (cache_dir / DOWNLOADS).mkdir(parents=True, exist_ok=True)
        sweep(cache_dir)
        sweep(cache_dir / DOWNLOADS)
        _build(entry, path, progress, timeout)
    except UnreachableError as error:
        raise DataError(
            f"Could not download the data set {name!r} from {error}; without network, {elsewhere}."
        ) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DataError(
            f"Could not write the data set {name!r} to {cache_dir}:"
            f" {'the disk is full' if full else error}; choose another cache folder, or"
            f" {elsewhere}."
        ) from error
    return path


def _packaged(entry: NamedSet) -> Path:
    path = Path(str(files("nequip.data") / "sample" / entry.packaged))
    if not path.is_file():
        raise DataError(f"The file {path} is missing from this installation: install it again.")
    return path


def _build(entry: NamedSet, path: Path, progress: Progress | None, timeout: float) -> None:
    """Fetch, convert, and leave the origin and then the file at `path`."""
    folder, origin = path.parent / DOWNLOADS, path.with_suffix(".json")
    recorded = _recorded(origin)
    data = fetch(entry.sources, folder, recorded=recorded, timeout=timeout, progress=progress)
    downloads = [data]
    if entry.rows:
        rows = fetch(entry.rows, folder, recorded=recorded, timeout=timeout, progress=progress)
        downloads.append(rows)
    try:
        with whole_file(path) as handle:
            frames = _convert(entry, downloads, handle)
            with whole_file(origin) as note:
                note.write(json.dumps(_origin(entry, downloads, frames), indent=2).encode())
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the operating system speaks of the disk; readers speak without a number
        for download in downloads:
            if download.remote.checksum is None:  # else the next try would stumble over it again
                download.path.unlink(missing_ok=True)
        raise DataError(
            f"{data.remote.url} did not send a file of the kind {entry.layout!r} that the catalogue"
            f" promises for {entry.name!r} ({error}): pass data.file=PATH to a copy that you have."
        ) from error
    if entry.frames not in (None, frames):
        logger.warning("%s has %d frames, not %d as stated", entry.name, frames, entry.frames)


def _convert(entry: NamedSet, downloads: list[Download], handle: BinaryIO) -> int:
    rows = None
    if len(downloads) > 1:
        with open_member(downloads[1].path, downloads[1].remote.member) as listing:
            rows = read_rows(listing)
    with open_member(downloads[0].path, downloads[0].remote.member) as content:
        return write_extxyz(LAYOUTS[entry.layout](content, rows), handle)


def _origin(entry: NamedSet, downloads: list[Download], frames: int) -> dict[str, Any]:
    return {
        "name": entry.name,
        "frames": frames,
        "level": entry.level,
        "licence": entry.licence,
        "citation": entry.citation,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "sources": [
            {
                "url": download.remote.url,
                "member": download.remote.member,
                "sha256": download.sha256,
                "published_checksum": download.remote.checksum,
            }
            for download in downloads
        ],
    }


def _recorded(origin: Path) -> dict[str, str]:
    """Checksums from an earlier download of the same set, by URL; none if there was none."""
    try:
        sources = json.loads(origin.read_text())["sources"]
        return {source["url"]: f"sha256:{source['sha256']}" for source in sources}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
