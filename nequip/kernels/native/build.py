"""Libraries built once and kept, named by all that their content depends on.

A library appears under its name only when it is whole. Processes that want the same one wait for the
first; what a killed build leaves behind is a file that nobody reads. A digest beside each library
tells a damaged or foreign one, which is then built again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Generator
from pathlib import Path

from nequip.errors import KernelError
from nequip.kernels.native.compiler import Compiler


def cache_folder() -> Path:
    """Where libraries are kept between runs: the user's cache."""
    return Path.home() / ".cache" / "e3forge" / "kernels"


def build_library(
    source: str, flags: tuple[str, ...], compiler: Compiler, headers: Path, folder: Path | None = None
) -> Path:
    """The shared library of `source`, from the cache or built now.

    Args:
        headers: folder of the headers that the source includes; their text is part of the name.

    Raises:
        KernelError: when the compiler refuses the source or the folder cannot be written.
    """
    folder = folder or cache_folder()
    included = [header.read_text() for header in sorted(headers.glob("*.h"))]
    parts = [compiler.version, *compiler.command("source", "target", flags), *included, source]
    path = folder / f"{_digest(chr(0).join(parts).encode())[:32]}.so"
    if _is_whole(path):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            if not _is_whole(path):
                _build(source, path, (*flags, f"-I{headers}"), compiler)
    except OSError as error:
        raise KernelError(
            f"cannot keep kernels in {folder} ({error.strerror or error}): make room, let it be written to, "
            "or choose backend reference."
        ) from error
    return path


def _build(source: str, path: Path, flags: tuple[str, ...], compiler: Compiler) -> None:
    text = path.with_suffix(".cpp")
    text.write_text(source)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        compiler.compile(text, unfinished, flags)
        _record(path).write_text(_seal(path, unfinished.read_bytes()))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    try:
        return _seal(path, path.read_bytes()) == _record(path).read_text()
    except OSError:
        return False


def _record(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _seal(path: Path, content: bytes) -> str:
    """With the name in it, so that a library that was copied over another one with its record is told."""
    return _digest(path.name.encode() + content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    """One process at a time; the lock goes with the process, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
