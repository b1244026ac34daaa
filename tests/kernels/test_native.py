"""Libraries built at run time: once, whole, for this machine, or refused with a sentence."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_tensor_product import problem

from nequip.errors import KernelError
from nequip.kernels.backend import choose
from nequip.kernels.native.build import build_library
from nequip.kernels.native.compiler import INSTRUCTION_SETS, Compiler, find_compiler, instruction_set
from nequip.kernels.native.library import CSRC, load_kernel, load_operators
from nequip.kernels.tensor_product import TensorProductSpec, convolve, reference
from nequip.kernels.tensor_product.cpu_source import cpu_source
from nequip.o3 import Irreps

SOURCE = 'extern "C" int answer() { return 42; }'
SPEC = TensorProductSpec.full(Irreps("5x0e+3x1o"), Irreps("0e+1o"), Irreps("0e+1o"))  # of this file alone


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder with a compiler `cc` that writes down its `runs`, and stops half way while `hold` is there."""
    script = tmp_path / "cc"
    script.write_text(
        f"#!/bin/sh\ncd {tmp_path}\necho run >> runs\nfor last; do :; done\nprintf half > $last\n"
        f'while [ -e hold ]; do sleep 0.05; done\nexec {find_compiler().path} "$@"\n'
    )
    script.chmod(0o755)
    return tmp_path


def build(workshop: Path, source: str = SOURCE, flags: tuple[str, ...] = ()) -> Path:
    compiler = Compiler(str(workshop / "cc"), "a compiler that counts")
    return build_library(source, flags, compiler, headers=workshop, folder=workshop / "cache")


def runs(workshop: Path) -> int:
    log = workshop / "runs"
    return len(log.read_text().splitlines()) if log.exists() else 0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


IN_A_PROCESS = """
import sys
from pathlib import Path
from nequip.kernels.native.build import build_library
from nequip.kernels.native.compiler import Compiler
workshop, name, source = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
compiler = Compiler(str(workshop / "cc"), "a compiler that counts")
(workshop / name).touch()
print(build_library(source, (), compiler, headers=workshop, folder=workshop / "cache"))
"""


def building_process(workshop: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", IN_A_PROCESS, str(workshop), name, SOURCE]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def assert_one_sentence(message: str) -> None:
    assert message.endswith(".")
    assert "\n" not in message


def test_a_library_is_built_once_and_found_again(workshop):
    path = build(workshop)
    assert build(workshop) == path
    assert runs(workshop) == 1
    assert ctypes.CDLL(str(path)).answer() == 42


def test_source_flags_and_headers_are_part_of_the_name(workshop):
    paths = {build(workshop), build(workshop, SOURCE + "\n"), build(workshop, flags=("-O1",))}
    (workshop / "conv_abi.h").write_text("// a header")
    assert len(paths | {build(workshop)}) == 4


def test_processes_that_want_the_same_library_build_it_once(workshop):
    (workshop / "hold").touch()
    processes = [building_process(workshop, name) for name in ("first", "second")]
    wait_for(lambda: all((workshop / name).exists() for name in ("first", "second", "runs")))
    (workshop / "hold").unlink()
    paths = {process.communicate()[0] for process in processes}
    assert paths == {f"{build(workshop)}\n"}
    assert runs(workshop) == 1


def test_a_killed_build_leaves_nothing_that_is_taken_for_whole(workshop):
    (workshop / "hold").touch()
    process = building_process(workshop, "victim")
    wait_for(lambda: any((workshop / "cache").glob("*.tmp")))
    process.kill()
    process.communicate()
    assert not list((workshop / "cache").glob("*.so"))
    (workshop / "hold").unlink()
    assert ctypes.CDLL(str(build(workshop))).answer() == 42
    assert runs(workshop) == 2


def record(path: Path) -> Path:
    return path.with_suffix(".sha256")


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "truncated": lambda path, other: path.write_bytes(path.read_bytes()[:5000]),
    "emptied": lambda path, other: path.write_bytes(b""),
    "removed": lambda path, other: path.unlink(),
    "foreign": lambda path, other: shutil.copy(other, path),
    "foreign, without a record": lambda path, other: (shutil.copy(other, path), record(path).unlink()),
    "foreign, with its record": lambda path, other: (
        shutil.copy(other, path),
        shutil.copy(record(other), record(path)),
    ),
    "with an empty record": lambda path, other: record(path).write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_library_is_built_again(workshop, damage):
    path, other = build(workshop), build(workshop, 'extern "C" int answer() { return 41; }')
    whole = path.read_bytes()
    damage(path, other)
    assert build(workshop) == path
    assert path.read_bytes() == whole
    assert runs(workshop) == 3


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KernelError, match=r"cannot keep kernels in .*/file/cache") as raised:
        build_library(SOURCE, (), find_compiler(), tmp_path, tmp_path / "file" / "cache")
    assert_one_sentence(str(raised.value))


def test_the_first_error_of_the_compiler_is_told(tmp_path):
    with pytest.raises(KernelError, match=r"could not build .* error: .*nonsense") as raised:
        build_library("nonsense here;\nmore nonsense;", (), find_compiler(), tmp_path, tmp_path / "cache")
    assert_one_sentence(str(raised.value))
    assert not list((tmp_path / "cache").glob("*.so"))


@pytest.fixture(params=["nothing", "a compiler that fails", "a compiler for another machine"])
def no_compiler(request, monkeypatch, tmp_path):
    if request.param != "nothing":
        program = tmp_path / "c++"
        program.write_text("#!/bin/sh\nexit 1\n" if request.param == "a compiler that fails" else "\x7fELF")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for cached in (find_compiler, choose, load_operators):
        cached.cache_clear()
    yield
    for cached in (find_compiler, choose, load_operators):
        cached.cache_clear()


def test_auto_takes_the_reference_where_the_operators_cannot_be_built(monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.write_text("a file, where a folder would be needed")
    monkeypatch.setenv("HOME", str(home))
    for cached in (choose, load_operators):
        cached.cache_clear()
    try:
        name, why = choose("auto", "cpu")
    finally:
        for cached in (choose, load_operators):
            cached.cache_clear()
    assert name == "reference"
    assert "cannot keep kernels in" in why


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_reference_is_taken_and_it_is_said_why():
    name, why = choose("auto", "cpu")
    assert name == "reference"
    assert "no C++ compiler here" in why
    arguments = problem(SPEC, 3, 5)
    assert torch.equal(convolve(*arguments, spec=SPEC), reference.convolve(*arguments, SPEC))


@pytest.mark.parametrize("backend", ["cpu", "compiled"])
@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_a_backend_that_needs_one_is_refused(backend):
    with pytest.raises(KernelError, match=r"no C\+\+ compiler here .* install") as raised:
        choose(backend, "cpu")
    assert_one_sentence(str(raised.value))


def test_an_unknown_backend_is_told_the_nearest():
    with pytest.raises(KernelError, match=r"no backend 'cpuu' \(did you mean 'cpu'\?\)"):
        choose("cpuu", "cpu")


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
def test_every_instruction_set_gives_the_numbers_of_the_reference(instructions, dtype, tolerance, tmp_path):
    narrower = list(INSTRUCTION_SETS)[list(INSTRUCTION_SETS).index(instruction_set()) :]
    if instructions not in narrower:
        pytest.skip(f"this machine has no {instructions}")
    scalar, size = {torch.float32: ("float", 4), torch.float64: ("double", 8)}[dtype]
    for order in ("first", "second"):
        source = cpu_source(SPEC, scalar, order)
        library = build_library(source, INSTRUCTION_SETS[instructions], find_compiler(), CSRC, tmp_path)
        load_kernel(SPEC.text, size, library)
        built_for = ctypes.CDLL(str(library)).conv_instruction_set
        built_for.restype = ctypes.c_char_p
        assert built_for() == instructions.encode()

    torch.manual_seed(0)
    *values, edges = problem(SPEC, 6, 40)
    along = [torch.randn_like(value) for value in values]
    values = [torch.randn(6, SPEC.irreps_out.dim, dtype=torch.float64), *values]
    expected = reference_derivatives(values, along, edges)
    z, direction = ([value.detach().to(dtype) for value in group] for group in (values, along))
    ops, end = torch.ops.nequip, (*edges, SPEC.text)
    actual = (
        ops.conv(*z[1:], *end),
        *ops.conv_backward(*z, *end),
        *ops.conv_double_backward(*direction, *z, *end),
    )
    for value, exact in zip(actual, expected, strict=True):
        torch.testing.assert_close(value.double(), exact, atol=tolerance * exact.abs().max().item(), rtol=0)


def reference_derivatives(z, along, edges):
    """The sum, its gradient, and the gradient's derivative along a direction."""
    g, *values = (value.requires_grad_() for value in z)
    out = reference.convolve(*values, edges, SPEC)
    gradient = torch.autograd.grad((g * out).sum(), values, create_graph=True)
    turned = sum((d * value).sum() for d, value in zip(gradient, along, strict=True))
    hessian = torch.autograd.grad(turned, (g, *values))
    return [value.detach() for value in (out, *gradient, *hessian)]


FOREIGN = {
    "for another machine": (
        'extern "C" { const char* conv_instruction_set() { return "avx1024"; }\n'
        "extern const int conv_sizes[4] = {1, 1, 1, 1}; }",
        "was built for avx1024, which this machine lacks",
    ),
    "of something else": (SOURCE, "no kernel library of ours"),
}


@pytest.mark.parametrize(("source", "message"), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_library_that_cannot_serve_here_is_refused(source, message, tmp_path):
    path = build_library(source, (), find_compiler(), tmp_path, tmp_path)
    with pytest.raises(KernelError, match=message) as raised:
        load_kernel("a specification", 8, path)
    assert_one_sentence(str(raised.value))


def test_a_file_that_is_no_library_is_refused(tmp_path):
    path = tmp_path / "text.so"
    path.write_text("no library at all")
    with pytest.raises(KernelError, match=r"text\.so: .*remove that file"):
        load_kernel("a specification", 8, path)
