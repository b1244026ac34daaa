"""Files of other packages through one door: the same numbers, and one sentence where that cannot be."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import payloads
import pytest
import torch
from ase import Atoms

import nequip
from nequip.calculators import NequIPCalculator
from nequip.errors import CheckpointError, DataError
from nequip.interop import load, read_card

FILES = Path(__file__).parent / "files"
PUBLISHED = sorted(path for path in FILES.iterdir() if path.suffix != ".npz")
MODELS = [path for path in PUBLISHED if path.suffix == ".model"]


def expected(path: Path) -> dict[str, np.ndarray]:
    return dict(np.load(path.with_suffix(".npz")))


def predicted(path: Path, structure: dict[str, np.ndarray], **options) -> Atoms:
    potential = load(path, dtype="float64", backend="reference", **options)
    return Atoms(structure["numbers"], structure["positions"], calculator=NequIPCalculator(potential))


def heads(path: Path) -> list[str]:
    return [key.partition("/")[2] for key in expected(path) if key.startswith("energy")]


@pytest.mark.parametrize(
    ("path", "head"),
    [(p, head) for p in PUBLISHED for head in heads(p)],
    ids=lambda value: getattr(value, "name", value),
)
def test_energies_and_forces_are_those_of_the_package_that_wrote_the_file(path, head):
    reference = expected(path)
    atoms = predicted(path, reference, head=head or None)
    suffix = f"/{head}" if head else ""
    # the weights of the first model were rounded to float32 together with constants that ours has exactly
    exact = path.name != "mace_small.model"
    assert atoms.get_potential_energy() == pytest.approx(
        reference[f"energy{suffix}"], abs=1e-11 if exact else 1e-8
    )
    assert np.abs(atoms.get_forces() - reference[f"forces{suffix}"]).max() < (1e-11 if exact else 1e-8)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_the_name_of_a_file_does_not_matter(path, tmp_path):
    renamed = tmp_path / "x.nequip"
    renamed.write_bytes(path.read_bytes())
    assert read_card(renamed).source.format == read_card(path).source.format


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_a_converted_file_gives_the_same_numbers_and_keeps_its_source(path, tmp_path):
    potential = load(path, backend="reference")
    potential.save(tmp_path / "x.nequip")
    again = load(tmp_path / "x.nequip", backend="reference")
    assert again.card.source == potential.card.source
    assert again.card.source.file == path.name
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in potential.state_dict().items())


def test_loading_needs_none_of_the_packages():
    script = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(['mace', 'e3nn', 'sevenn', 'omegaconf', 'lightning'])\n"
        "import nequip\n"
        "for path in sys.argv[1:]:\n    nequip.load(path, backend='reference')\n"
    )
    subprocess.run([sys.executable, "-c", script, *PUBLISHED], check=True)


def test_the_names_agree():
    assert nequip.load is load


def test_precision_is_that_of_the_file_or_the_one_asked_for():
    path = FILES / "mace_small.model"
    assert [load(path, dtype=d, backend="reference").card.dtype for d in (None, "float64")] == [
        "float32",
        "float64",
    ]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
@pytest.mark.parametrize("attack", ["os.system", "eval", "functools.partial", "an attribute of a module"])
def test_a_malicious_pickle_inside_a_real_file_is_refused_and_nothing_runs(path, attack, tmp_path):
    marker = tmp_path / "marker"
    bad = tmp_path / path.name
    bad.write_bytes(payloads.infected(path, payloads.payloads(marker)[attack]))
    with pytest.raises(CheckpointError, match="asks to call") as caught:
        load(bad)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_a_payload_in_the_place_of_the_weights_is_refused(tmp_path):
    """Records of packages that models are made of are kept, and are no weights."""
    call = payloads.call(payloads.named("torch.load"), payloads.text("other.pt"))
    pickled = b"}(" + payloads.text("state_dict") + call + payloads.text("hyper_parameters") + call
    pickled += payloads.text("pytorch-lightning_version") + payloads.text("2.0") + b"u"
    (tmp_path / "x.ckpt").write_bytes(payloads.archive(payloads.PROTOCOL + pickled + payloads.STOP))
    with pytest.raises(CheckpointError, match="not of nequip"):
        load(tmp_path / "x.ckpt")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.name)
def test_a_file_cut_short_anywhere_is_refused_in_one_sentence(path, tmp_path):
    whole = path.read_bytes()
    short = tmp_path / path.name
    for length in (0, 1, 3, 10, 100, len(whole) // 3, len(whole) // 2, len(whole) - 1000, len(whole) - 1):
        short.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=path.name) as caught:
            load(short)
        assert "\n" not in str(caught.value)


def save(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


OTHERS = {
    "empty": (b"", "is empty"),
    "text": (b"hello, world", "is not a saved potential"),
    "yaml": (b"model:\n  name: nequip\n", "is not a saved potential"),
    "json": (b'{"a": 1}\n', "cannot be read as a Nequix file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is not a saved potential"),
    "weights alone": (save({"weight": torch.ones(2)}), "from_published"),
    "a tensor": (save(torch.ones(2)), "not a saved potential"),
    "training of MACE": (save({"model": {}, "optimizer": {}, "lr_scheduler": {}}), "of MACE the .model"),
    "training of ours": (save({"format": "e3forge-training", "state_dict": {}}), r"\.nequip file beside it"),
    "another Lightning": (save({"state_dict": {}, "pytorch-lightning_version": "2"}), "not of nequip"),
    "another module": (save(torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
    "a compiled program": (payloads.archive(b"", **{"data/aotinductor/model/x.so": b""}), "AOTInductor"),
    "an exported program": (payloads.archive(b"", **{"models/model.json": b""}), "torch.export"),
    "a package": (payloads.archive(b"", **{".data/extern_modules": b""}), "package of torch"),
    "a zip": (payloads.archive(b"").replace(b"data.pkl", b"data.txt"), "no saved object"),
}


@pytest.mark.parametrize(("content", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_a_file_of_another_kind_is_named(content, words, tmp_path):
    path = tmp_path / "x.model"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        load(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_named_with_what_to_give_instead(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "x.model"))
    with pytest.raises(CheckpointError, match=r"TorchScript.*without _compiled"):
        load(tmp_path / "x.model")


def test_a_name_in_a_file_cannot_write_to_the_terminal(tmp_path):
    name = payloads.text("torch") + payloads.text("\x1b[2J\n" + 10_000 * "x") + b"\x93"
    program = payloads.PROTOCOL + payloads.call(name) + payloads.STOP
    (tmp_path / "x.pt").write_bytes(payloads.archive(program))
    with pytest.raises(CheckpointError, match="torch") as caught:
        load(tmp_path / "x.pt")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_an_element_that_the_model_does_not_know_is_named_with_those_it_knows():
    calculator = NequIPCalculator(load(MODELS[0], backend="reference"))
    with pytest.raises(DataError, match="holds Au, but the model knows only H, C, O"):
        Atoms("AuO", [[0, 0, 0], [0, 0, 2]], calculator=calculator).get_potential_energy()


def test_a_head_is_chosen_by_name():
    path = FILES / "mace_two_heads.model"
    with pytest.raises(CheckpointError, match=r"no head 'ccs'.*did you mean 'cc'"):
        load(path, head="ccs")
    assert load(path, head="cc", backend="reference").card.source.head == "cc"


@pytest.mark.parametrize(
    "path", [FILES / "mace_small.model", FILES / "nequip_ema.ckpt"], ids=lambda p: p.name
)
def test_a_head_of_a_model_that_has_one_is_refused(path):
    with pytest.raises(CheckpointError, match="one readout alone"):
        load(path, head="cc")


def test_a_head_of_a_converted_file_is_refused(tmp_path):
    load(MODELS[0], backend="reference").save(tmp_path / "x.nequip")
    with pytest.raises(CheckpointError, match="nequip-convert --head"):
        load(tmp_path / "x.nequip", head="cc")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    checkpoint = torch.load(FILES / "nequip_ema.ckpt", weights_only=False)
    checkpoint["state_dict"]["ema.ema_weight_3"][0] = float("nan")
    torch.save(checkpoint, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="not all finite"):
        load(tmp_path / "x.ckpt", backend="reference")


def test_what_is_known_of_a_published_file_is_in_its_card(data_dir):
    source = read_card(data_dir.parent / "pretrained" / "nequix-mp-1.nqx").source
    assert source.licence == "MIT"
    assert "PBE" in source.functional


def test_a_malicious_array_in_a_nequix_file_is_refused(data_dir, tmp_path):
    """Numpy would unpickle an array of objects, if it were asked to."""
    marker = tmp_path / "marker"
    with (data_dir.parent / "pretrained" / "nequix-mp-1.nqx").open("rb") as file:
        header, shape = file.readline(), np.load(file).shape
    described = str({"descr": "|O", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + len(described).to_bytes(2, "little") + described.encode()
    payload = payloads.PROTOCOL + payloads.payloads(marker)["os.system"] + payloads.STOP
    (tmp_path / "x.nqx").write_bytes(header + array + payload)
    with pytest.raises(CheckpointError, match=r"not .* of float32"):
        load(tmp_path / "x.nqx")
    assert not marker.exists()


def test_a_nequix_file_cut_short_anywhere_is_refused(data_dir, tmp_path):
    whole = (data_dir.parent / "pretrained" / "nequix-mp-1.nqx").read_bytes()
    for length in (1, 100, len(whole) // 2, len(whole) - 2):
        (tmp_path / "x.nqx").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load(tmp_path / "x.nqx")
