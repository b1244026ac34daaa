"""Files of torch are read as plain values, and nothing in them is ever run."""

from __future__ import annotations

import collections
import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import payloads
import pytest
import torch

from nequip.errors import CheckpointError
from nequip.interop.archives import Global, Record, describe_archive, read_torch_file

MARKER = Path("marker")
ATTACKS = payloads.payloads(MARKER)
INERT = payloads.inert_attacks()
FORMATS = {"zip": True, "stream": False}


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    """A file to write, in the folder where payloads would leave their marker."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "file.pt"


def wrapped(pickled: bytes, form: str) -> bytes:
    """A pickle as a whole file: in an archive, alone, or as the object of a stream."""
    program = payloads.PROTOCOL + pickled + payloads.STOP
    if form == "zip":
        return payloads.archive(program)
    if form == "plain":
        return program
    buffer = io.BytesIO()
    torch.save(None, buffer, _use_new_zipfile_serialization=False)
    stream = io.BytesIO(buffer.getvalue())
    for _ in range(3):
        pickle.load(stream)
    return buffer.getvalue()[: stream.tell()] + program + pickle.dumps([])


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_plain_values_and_tensors_come_back(path, zipped, protocol):
    values = {
        "numbers": [1, -2, 2**70, 1.5, True, None],
        "nested": ({"a": (1, 2)}, collections.OrderedDict(x=1), b"bytes", "teåxt"),
        "set": {1, "two"},
        "numpy": (np.float64(0.25), np.int64(3)),
    }
    torch.save(values, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    assert read_torch_file(path) == values


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_keep_dtype_layout_and_number(path, zipped, dtype):
    tensor = torch.arange(24).reshape(2, 3, 4).to(dtype)
    views = {
        "all": tensor,
        "part": tensor[1, :, 2],
        "turned": tensor.mT,
        "none": tensor[:0],
        "one": tensor[1, 1, 1],
    }
    torch.save(views, path, _use_new_zipfile_serialization=zipped)
    read = read_torch_file(path)
    for name, view in views.items():
        assert read[name].dtype == dtype
        assert torch.equal(read[name], view)


def test_arrays_of_numpy_come_back(path):
    array = np.arange(6.0).reshape(2, 3)
    torch.save({"a": array, "b": array.T.astype(np.float32), "again": array}, path)
    read = read_torch_file(path)
    assert np.array_equal(read["a"], array)
    assert np.array_equal(read["b"], array.T)
    assert read["again"] is read["a"]


def test_parameters_and_state_dicts_come_back(path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    torch.save(module.state_dict(), path)
    read = read_torch_file(path)
    assert all(torch.equal(read[key], value) for key, value in module.state_dict().items())


def test_a_module_is_a_record_of_what_it_holds(path):
    torch.save(torch.nn.Linear(2, 3), path)
    read = read_torch_file(path)
    assert isinstance(read, Record)
    assert read.maker == "torch.nn.modules.linear.Linear"
    assert read.state["_parameters"]["weight"].shape == (3, 2)


def test_a_function_is_only_its_name(path):
    torch.save({"function": torch.nn.functional.silu}, path)
    assert read_torch_file(path) == {"function": Global("torch.nn.functional.silu")}


@pytest.mark.parametrize("form", ["zip", "stream", "plain"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_malicious_pickle_is_refused_and_nothing_runs(path, attack, form):
    path.write_bytes(wrapped(ATTACKS[attack], form))
    with pytest.raises(CheckpointError):
        read_torch_file(path)
    assert not MARKER.exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_payloads_are_real(path, attack):
    """Python's own unpickler creates the file: what is refused above is worth refusing."""
    path.write_bytes(payloads.PROTOCOL + ATTACKS[attack] + payloads.STOP)
    script = "import pickle, sys\nvalue = pickle.load(open(sys.argv[1], 'rb'))\ngetattr(value, 'wait', int)()"
    subprocess.run([sys.executable, "-c", script, path], check=True)
    assert MARKER.exists()


@pytest.mark.parametrize("attack", INERT)
def test_instructions_that_no_model_needs_do_nothing(path, attack):
    path.write_bytes(wrapped(INERT[attack], "zip"))
    try:
        read = read_torch_file(path)
    except CheckpointError:
        return
    assert isinstance(read, Record | str)


def test_what_was_asked_for_is_named(path):
    path.write_bytes(wrapped(ATTACKS["os.system"], "zip"))
    with pytest.raises(CheckpointError, match=r"asks to call posix\.system, which no model needs"):
        read_torch_file(path)


def storage(pickled: str, content: bytes, count: int) -> bytes:
    """A tensor by hand: `pickled` are the opcodes of offset, shape and stride."""
    reference = b"(" + payloads.text("storage") + payloads.named("torch.FloatStorage") + payloads.text("0")
    reference += payloads.text("cpu") + b"J" + count.to_bytes(4, "little") + b"tQ"
    made = payloads.call(
        payloads.named("torch._utils._rebuild_tensor_v2"), reference, pickled.encode("latin1"), b"\x89}"
    )
    return payloads.archive(payloads.PROTOCOL + made + payloads.STOP, **{"data/0": content})


BOMBS = {
    "a stride of zero": ("K\x00J\x00\x00\x00\x40\x85K\x00\x85", 8, 2),
    "more than the storage": ("K\x00K\x03\x85K\x01\x85", 8, 2),
    "beyond the storage": ("K\x01K\x02\x85K\x01\x85", 8, 2),
    "a negative stride": ("K\x00K\x02\x85J\xff\xff\xff\xff\x85", 8, 2),
    "a storage that is shorter": ("K\x00K\x02\x85K\x01\x85", 7, 2),
    "a storage that is longer": ("K\x00K\x02\x85K\x01\x85", 12, 2),
}


@pytest.mark.parametrize(("pickled", "size", "count"), BOMBS.values(), ids=BOMBS.keys())
def test_a_tensor_that_its_storage_does_not_hold_is_refused(path, pickled, size, count):
    path.write_bytes(storage(pickled, bytes(size), count))
    with pytest.raises(CheckpointError):
        read_torch_file(path)


def test_such_a_tensor_by_hand_is_read_where_it_fits(path):
    path.write_bytes(storage("K\x00K\x02\x85K\x01\x85", np.float32([1, 2]).tobytes(), 2))
    assert read_torch_file(path).tolist() == [1, 2]


def test_a_compressed_archive_is_refused(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", b"\x80\x02N." + bytes(1000))
    with pytest.raises(CheckpointError, match="compressed"):
        read_torch_file(path)


def test_an_archive_with_parts_larger_than_itself_is_refused(path):
    """Two directory entries that point at the same bytes."""
    content = payloads.archive(b"\x80\x02N.", **{"data/0": bytes(5000), "data/1": b""})
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        first, second = (file.getinfo(f"archive/data/{index}") for index in (0, 1))
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as file:
        for name in ("header_offset", "file_size", "compress_size", "CRC"):
            setattr(file.getinfo(second.filename), name, getattr(first, name))
        file.writestr("archive/more", b"")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="larger than the archive"):
        read_torch_file(path)


@pytest.mark.parametrize("zipped", FORMATS.values(), ids=FORMATS.keys())
def test_a_file_cut_short_anywhere_is_refused(path, zipped):
    torch.save({"weight": torch.ones(50), "text": "x" * 100}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in {*range(4, len(whole) - 1, len(whole) // 40), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_torch_file(path)


def test_a_damaged_number_is_noticed(path):
    torch.save({"weight": torch.ones(50)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(np.ones(3, dtype=np.float32).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="missing or damaged"):
        read_torch_file(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_known(path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    assert "TorchScript" in describe_archive(path)
