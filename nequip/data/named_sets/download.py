"""Fetch one file over HTTP: verified while it arrives, and never seen half done under its name.

What arrives goes to a file of its own name beside the target (so two processes cannot meet) and is
renamed once it is whole and verified. A download that was killed starts anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from nequip.data.named_sets.catalogue import Remote
from nequip.errors import DataError

Progress = Callable[[int, "int | None"], None]  # bytes so far, bytes in all where known

BLOCK = 1 << 20  # bytes
STALE = 24 * 3600.0  # seconds after which an unfinished file belongs to no living process

logger = logging.getLogger(__name__)


class UnreachableError(Exception):
    """No source could be read; the text says which, and why."""


@dataclass(frozen=True)
class Download:
    """A file on disk, and what is known of its origin."""

    path: Path
    remote: Remote
    sha256: str


def fetch(
    remotes: Sequence[Remote],
    folder: Path,
    *,
    recorded: Mapping[str, str],
    timeout: float,
    progress: Progress | None = None,
) -> Download:
    """The first of `remotes` that can be had, from `folder` or else from the web.

    Args:
        recorded: checksums noted at an earlier download, by URL; they stand in where nobody
            published one.
        timeout: seconds without a byte after which a source counts as unreachable.

    Raises:
        UnreachableError: no source could be read.
        DataError: what a source sent has the wrong checksum.
        OSError: the file cannot be written.
    """
    reasons: list[str] = []
    for remote in remotes:
        expected = remote.checksum or recorded.get(remote.url)
        path = folder / _stored_name(remote.url)
        digests = _digests(path) if path.is_file() else {}
        if not _matches(expected, digests):
            try:
                digests = _download(remote, path, expected, timeout, progress)
            except UnreachableError as error:
                reasons.append(f"{remote.url} ({error})")
                continue
        if expected is None:
            text = "%s could not be verified, nobody published its checksum; its sha256 is %s"
            logger.warning(text, remote.url, digests["sha256"])
        return Download(path, remote, digests["sha256"])
    raise UnreachableError(" nor from ".join(reasons))


@contextmanager
def whole_file(path: Path) -> Generator[BinaryIO]:
    """A file to write that appears at `path` only if the block ends well."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())  # else a crash may leave a renamed file without its content
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what downloads that were killed long ago left behind in `folder`."""
    for part in folder.glob(".*.part"):
        try:
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()
        except OSError:  # another process was faster, or the file is somebody else's
            continue


def _download(
    remote: Remote, path: Path, expected: str | None, timeout: float, progress: Progress | None
) -> dict[str, str]:
    logger.info("downloading %s", remote.url)
    hashes = _hashes()
    with whole_file(path) as handle:
        for block in _blocks(remote.url, timeout, progress):
            handle.write(block)
            for value in hashes.values():
                value.update(block)
        digests = {name: value.hexdigest() for name, value in hashes.items()}
        if not _matches(expected, digests):
            algorithm, _, digest = (expected or "").partition(":")
            origin = "as published" if remote.checksum else "as at the first download"
            raise DataError(
                f"What {remote.url} sent has the {algorithm} {digests.get(algorithm)} and not"
                f" {digest}, {origin}; it was removed: try again, and if it stays so the file was"
                " changed where it is published."
            )
    return digests


def _blocks(url: str, timeout: float, progress: Progress | None) -> Iterator[bytes]:
    """What `url` answers, block by block; ends only if it is whole."""
    done = 0
    request = Request(url, headers={"User-Agent": "e3forge"})
    try:
        with urlopen(request, timeout=timeout) as answer:
            total: int | None = answer.length
            if answer.status != 200:  # 202 and the like: a gatekeeper, not the file
                raise UnreachableError(f"it answered with status {answer.status}")
            if answer.headers.get_content_type() == "text/html":
                raise UnreachableError("it answered with a web page instead of the file")
            while block := answer.read(BLOCK):
                done += len(block)
                if progress is not None:
                    progress(done, total)
                yield block
    except HTTPError as error:
        error.close()
        raise UnreachableError(f"it answered with status {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)  # what urllib wraps
        raise UnreachableError(str(reason) or type(error).__name__) from error
    if total is not None and done < total:
        raise UnreachableError(f"the connection closed after {done} of {total} bytes")


def _stored_name(url: str) -> str:
    """A name for the file of `url`: readable, and different for different URLs."""
    stem = Path(urlsplit(url).path).name
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}_{stem}"


def _hashes() -> dict[str, Any]:
    return {
        "md5": hashlib.md5(usedforsecurity=False),
        "sha256": hashlib.sha256(usedforsecurity=False),
    }


def _digests(path: Path) -> dict[str, str]:
    hashes = _hashes()
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            for value in hashes.values():
                value.update(block)
    return {name: value.hexdigest() for name, value in hashes.items()}


def _matches(expected: str | None, digests: Mapping[str, str]) -> bool:
    """Whether there is a file, and it has the expected checksum, where there is one."""
    if expected is None:
        return bool(digests)
    algorithm, _, digest = expected.partition(":")
    return digests.get(algorithm) == digest
