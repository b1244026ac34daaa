"""What `torch.save` writes: a zip archive of a pickle and storages, or, before 2020, one stream of both."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from nequip.errors import CheckpointError
from nequip.interop.archives.pickled import Rebuilders, Record, read_pickle
from nequip.interop.archives.values import RECORDED, rebuilders, storage_reference

ZIP = b"PK\x03\x04"
PICKLE = b"\x80"
_STREAM_MAGIC = 0x1950A86A20F9469CFC6C
_STREAM_PROTOCOL = 1001
# Archives that are no saved objects, by a name inside them: what they are, and what to do.
_OTHERS = {
    "/constants.pkl": (
        "is a TorchScript program, which holds code; give the file from which it was compiled (of MACE the "
        "one named .model without _compiled)"
    ),
    "/data/aotinductor/": (
        "is a compiled program (AOTInductor), which holds machine code and no weights to convert; give it to "
        "NequIPCalculator if nequip-compile wrote it, and else the checkpoint from which it was compiled"
    ),
    "/models/model.json": "is a program that torch.export wrote; give the checkpoint from which it was made",
    "/.data/extern_modules": (
        "is a package of torch, which holds code; give the checkpoint (.ckpt) from which it was packaged"
    ),
}


def describe_archive(path: Path) -> str | None:
    """What an archive is and what to do about it, where it is one that is known to hold no saved object.

    Raises:
        CheckpointError: for an archive that is damaged.
    """
    with _open(path) as archive:
        names = archive.namelist()
    for part, sentence in _OTHERS.items():
        if any(part in f"/{name}" for name in names):
            return sentence
    return None


def read_torch_file(path: Path) -> Any:
    """What was saved: dictionaries, lists, tensors and numbers; everything else as a `Record`.

    Raises:
        CheckpointError: for a file that is damaged, that holds no saved object, or that asks for more than
            a model needs.
    """
    with path.open("rb") as file:
        zipped = file.read(len(ZIP)) == ZIP
    return _read_archive(path) if zipped else _read_stream(path)


def read_program_values(content: bytes) -> dict[str, Any]:
    """The attributes of a TorchScript module, such as its constants; its code is not looked at.

    Raises:
        CheckpointError: as `read_torch_file`.
    """
    program = _read_archive(io.BytesIO(content))
    state = program.state if isinstance(program, Record) else None
    return state if isinstance(state, dict) else {}


def _open(source: Path | io.BytesIO) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CheckpointError(f"the archive was cut short or is damaged ({error})") from error
    size = source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes
    stored = [entry for entry in archive.infolist() if entry.compress_type == zipfile.ZIP_STORED]
    if sum(entry.file_size for entry in stored) > size:
        raise CheckpointError("its parts are larger than the archive")
    return archive


def _read_archive(source: Path | io.BytesIO) -> Any:
    with _open(source) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.split("/")[-1] == "data.pkl" and name.count("/") < 2]
        if len(pickles) != 1:
            raise CheckpointError("the archive holds no saved object (data.pkl)")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and _entry(archive, f"{folder}byteorder") != b"little":
            raise CheckpointError("it was written on a big-endian machine")
        stream = io.BytesIO(_entry(archive, pickles[0]))
        return read_pickle(stream, rebuilders(lambda key: _entry(archive, f"{folder}data/{key}")))


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        # torch compresses no numbers: a part that would grow is none of torch's
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"its part {name} is compressed, as torch leaves none")
        return archive.read(name)
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"its part {name} is missing or damaged") from error


def _read_stream(path: Path) -> Any:
    """Three pickles of headers, that of the object, that of the keys of its storages, then the storages."""
    stream = io.BytesIO(path.read_bytes())
    no_storages = rebuilders(_no_storage)
    if read_pickle(stream, no_storages) != _STREAM_MAGIC:
        raise CheckpointError("it is a pickle that torch.save did not write")
    if read_pickle(stream, no_storages) != _STREAM_PROTOCOL:
        raise CheckpointError("it was written by a version of torch that is not known")
    system = read_pickle(stream, no_storages)
    if not isinstance(system, dict) or not system.get("little_endian"):
        raise CheckpointError("it was written on a big-endian machine")
    start = stream.tell()
    dtypes: dict[str, torch.dtype] = {}

    def note(reference: Any) -> None:
        key, dtype, _ = storage_reference(reference)
        dtypes[key] = dtype

    read_pickle(stream, Rebuilders({}, {}, note, RECORDED | {"_codecs", "builtins", "__builtin__"}))
    keys = read_pickle(stream, no_storages)
    storages = {key: _next_storage(stream, dtypes[key]) for key in keys}
    stream.seek(start)
    return read_pickle(stream, rebuilders(storages.__getitem__))


def _no_storage(key: str) -> bytes:
    raise CheckpointError(f"a header refers to the storage {key}")


def _next_storage(stream: io.BytesIO, dtype: torch.dtype) -> bytes:
    count = int.from_bytes(stream.read(8), "little")
    content = stream.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise CheckpointError("it was cut short")
    return content
