"""Pickles that create a file when Python's own unpickler reads them, and archives to hide them in."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

PROTOCOL = b"\x80\x04"
STOP = b"."


def text(value: str | Path) -> bytes:
    content = str(value).encode()
    return b"X" + len(content).to_bytes(4, "little") + content


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def payloads(marker: Path) -> dict[str, bytes]:
    """Each touches `marker` when it is unpickled; they leave one value on the stack."""
    touch = text(f"touch {marker}")
    write = text(f"open({str(marker)!r}, 'w').close()")
    system = named("posix.system")
    module = call(named("importlib.import_module"), text("os"))
    return {
        "os.system": call(system, touch),
        "eval": call(named("builtins.eval"), write),
        "exec": call(named("builtins.exec"), write),
        "a name from the stack": call(text("posix") + text("system") + b"\x93", touch),
        "an attribute of a module": call(call(named("builtins.getattr"), module, text("system")), touch),
        "functools.partial": call(call(named("functools.partial"), system, touch)),
        "operator.methodcaller": call(call(named("operator.methodcaller"), text("system"), touch), module),
        "an instance": b"(" + touch + b"i" + b"posix\nsystem\n",
        "an object": b"(" + system + touch + b"o",
        "a class made on the spot": call(
            named("subprocess.Popen"), b"(" + text("touch") + text(marker) + b"l"
        ),
        "compiled code": call(
            named("builtins.exec"), call(named("builtins.compile"), write, text("x"), text("exec"))
        ),
    }


def inert_attacks() -> dict[str, bytes]:
    """Instructions that have no place in a model, whatever they would do."""
    state = b"}" + text("__setstate__") + named("posix.system") + b"s"
    return {
        "attributes of a class": named("collections.OrderedDict") + state + b"b",
        "attributes of a function": named("torch._utils._rebuild_tensor_v2") + b"(N" + state + b"tb",
        "the extension registry": b"\x82\x01",
        "a persistent id as text": b"Pstorage\n",
        "a persistent id that is no storage": text("storage") + b"Q",
        "an encoding that runs code": call(named("_codecs.encode"), text("x"), text("rot13")),
        "torch.load": call(named("torch.load"), text("other.pt")),
        "numpy.load": call(named("numpy.load"), text("other.npy")),
        "torch.hub.load": call(named("torch.hub.load"), text("owner/repository"), text("model")),
        "a memo without end": b"Nr\xff\xff\xff\x7f" + b"0" + text("x") + b"h\x05",
        "a mark alone": b"(",
        "nothing": b"",
    }


def archive(pickle: bytes, **parts: bytes) -> bytes:
    """A zip archive as `torch.save` lays it out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in {"data.pkl": pickle, "version": b"3\n", **parts}.items():
            file.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def infected(path: Path, payload: bytes) -> bytes:
    """The archive at `path` with a payload at the start of its pickle, whose value is dropped again."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(buffer, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("/data.pkl"):
                content = content[:2] + payload + b"0" + content[2:]
            target.writestr(entry.filename, content)
    return buffer.getvalue()
