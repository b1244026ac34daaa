"""Arrays that do not fit a convolution: an exception that names them, never a crash."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_tensor_product import problem

from nequip.errors import KernelError
from nequip.kernels.edges import Edges
from nequip.kernels.native.build import build_library
from nequip.kernels.native.compiler import INSTRUCTION_SETS, find_compiler, instruction_set
from nequip.kernels.native.library import CSRC, load_kernel
from nequip.kernels.tensor_product import TensorProductSpec, convolve, cpu
from nequip.kernels.tensor_product.cpu_source import cpu_source
from nequip.kernels.tensor_product.tabulated import convolve_tabulated
from nequip.o3 import Irreps

SPEC = TensorProductSpec.full(Irreps("2x0e+1x1o"), Irreps("0e+1o"), Irreps("0e+1o"))
DIM_IN, DIM_SH, DIM_OUT = SPEC.irreps_in.dim, SPEC.irreps_sh.dim, SPEC.irreps_out.dim
ATOMS, EDGES = 3, 4

Change = Callable[[torch.Tensor], torch.Tensor]


def replaced(values: torch.Tensor, index: int, value: int) -> torch.Tensor:
    values = values.clone()
    values[index] = value
    return values


# Argument, what is done to it, what is said of it. Centers are [0, 0, 1, 2], row_ptr is [0, 2, 3, 4].
BAD: dict[str, tuple[str, Change, str]] = {
    "x with a column too many": ("x", lambda x: torch.cat([x, x[:, :1]], 1), rf"\[3, {DIM_IN + 1}\]"),
    "x without columns": ("x", lambda x: x[:, 0], r"\[3\]"),
    "x a number": ("x", lambda x: x[0, 0], r"\[\]"),
    "x in half precision": ("x", lambda x: x.half(), "float32 nor float64|float16"),
    "x of whole numbers": ("x", lambda x: x.long(), "float32 nor float64|int64"),
    "sh with an edge too few": ("sh", lambda sh: sh[1:], rf"\[3, {DIM_SH}\], not \[4, {DIM_SH}\]"),
    "sh with a component too few": ("sh", lambda sh: sh[:, 1:], rf"\[4, {DIM_SH - 1}\]"),
    "sh in another precision": ("sh", lambda sh: sh.float(), "dtype|float32"),
    "sh elsewhere": ("sh", lambda sh: sh.to("meta"), "meta"),
    "weight with a path too few": ("weight", lambda w: w[:, 1:], rf"\[4, {SPEC.num_weights - 1}\]"),
    "weight in another precision": ("weight", lambda w: w.float(), "dtype|float32"),
    "weight elsewhere": ("weight", lambda w: w.to("meta"), "meta"),
    "center of another length": ("center", lambda c: c[1:], r"\[3\], not \[4\]"),
    "center in int32": ("center", lambda c: c.int(), "int64"),
    "center elsewhere": ("center", lambda c: c.to("meta"), "meta"),
    "center unsorted": ("center", lambda c: c.flip(0), r"\[0\] is 2 where row_ptr has row 0.*sorted"),
    "center of another atom": ("center", lambda c: c + 1, r"\[0\] is 1 where row_ptr has row 0"),
    "neighbor a matrix": ("neighbor", lambda n: n[:, None], r"\[4, 1\]"),
    "neighbor a number": ("neighbor", lambda n: n[0], r"\[\]"),
    "neighbor in int32": ("neighbor", lambda n: n.int(), "int64"),
    "neighbor elsewhere": ("neighbor", lambda n: n.to("meta"), "meta"),
    "neighbor beyond the atoms": ("neighbor", lambda n: replaced(n, 2, 3), r"\[2\] is 3.* 3 rows"),
    "neighbor below zero": ("neighbor", lambda n: replaced(n, 3, -1), r"\[3\] is -1.* 3 rows"),
    "neighbor far away": ("neighbor", lambda n: replaced(n, 0, 2**62), r"\[0\] is 4611686018427387904"),
    "row_ptr empty": ("row_ptr", lambda p: p[:0], "one entry more than there are rows"),
    "row_ptr a number": ("row_ptr", lambda p: p[0], r"\[\]"),
    "row_ptr in int32": ("row_ptr", lambda p: p.int(), "int64"),
    "row_ptr elsewhere": ("row_ptr", lambda p: p.to("meta"), "meta"),
    "row_ptr with a late start": ("row_ptr", lambda p: replaced(p, 0, 1), "from 1 to 4"),
    "row_ptr with an early end": ("row_ptr", lambda p: replaced(p, 3, 3), "from 0 to 3"),
    "row_ptr without rows": ("row_ptr", lambda p: p[:1], "from 0 to 0"),
    "row_ptr descending": ("row_ptr", lambda p: replaced(p, 1, 4), "descends"),
    "row_ptr far away": ("row_ptr", lambda p: replaced(p, 1, 2**62), "descends"),
}
BAD_NAMES = ("argument", "change", "message")


def arguments() -> dict[str, torch.Tensor]:
    x, sh, weight, _ = problem(SPEC, ATOMS, EDGES)
    center, neighbor = torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 0, 1])
    edges = Edges(center, neighbor, torch.tensor([0, 2, 3, 4]), neighbor.argsort(stable=True))
    return {"x": x, "sh": sh, "weight": weight, **edges._asdict()}


def call_convolve(changed: dict[str, torch.Tensor], backend: str) -> torch.Tensor:
    x, sh, weight, *edges = changed.values()
    return convolve(x, sh, weight, Edges(*edges), spec=SPEC, backend=backend)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize(BAD_NAMES, BAD.values(), ids=BAD.keys())
def test_convolve_names_what_does_not_fit(argument, change, message, backend):
    good = arguments()
    with pytest.raises(KernelError, match=message) as raised:
        call_convolve(good | {argument: change(good[argument])}, backend)
    assert argument in str(raised.value)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_convolve_names_a_permutation_of_another_length(backend):
    good = arguments()
    with pytest.raises(KernelError, match=r"transpose is \[3\], not \[4\]"):
        call_convolve(good | {"transpose": good["transpose"][1:]}, backend)


def test_convolve_names_the_first_array_that_is_not_where_x_is():
    good = arguments()
    with pytest.raises(KernelError, match=r"neighbor is torch\.int64 on cpu, not .* on meta"):
        call_convolve(good | {"x": good["x"].to("meta")}, "reference")


def test_the_backend_names_the_precisions_that_it_has():
    half = {name: value.half() if value.is_floating_point() else value for name, value in arguments().items()}
    with pytest.raises(KernelError, match=r"float32 and float64, not in torch\.float16"):
        call_convolve(half, "cpu")


def test_a_spec_without_paths_is_told():
    nothing = TensorProductSpec.full(SPEC.irreps_in, SPEC.irreps_sh, Irreps("5e"))
    x, sh, _, edges = problem(SPEC, ATOMS, EDGES)
    with pytest.raises(KernelError, match="no paths"):
        convolve(x, sh, sh[:, :0], edges, spec=nothing)


# ---- The operators themselves, as artefacts and other programs call them


def directions_and_grad() -> dict[str, torch.Tensor]:
    x, sh, weight, *_ = arguments().values()
    grad = torch.ones(ATOMS, DIM_OUT, dtype=x.dtype)
    return {"along_x": x, "along_sh": sh, "along_weight": weight, "grad": grad}


@pytest.fixture(scope="module")
def _kernels() -> None:
    cpu.prepare(SPEC.text, torch.float64)
    library = build_library(
        cpu_source(SPEC, "double", "second"), INSTRUCTION_SETS[instruction_set()], find_compiler(), CSRC
    )
    load_kernel(SPEC.text, 8, library)


def call_operator(name: str, change: dict[str, torch.Tensor], spec: str = SPEC.text) -> object:
    first = {"conv": 4, "conv_backward": 3, "conv_double_backward": 0}[name]
    values = {**directions_and_grad(), **arguments()} | change
    return getattr(torch.ops.nequip, name)(*list(values.values())[first:], spec)


OPERATORS = ["conv", "conv_backward", "conv_double_backward"]


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(BAD_NAMES, BAD.values(), ids=BAD.keys())
def test_operators_name_what_does_not_fit(operator, argument, change, message):
    call_operator(operator, {})
    with pytest.raises((RuntimeError, KernelError), match=message) as raised:
        call_operator(operator, {argument: change(arguments()[argument])})
    assert argument in str(raised.value)


BAD_HIGHER: dict[str, tuple[Change, str]] = {
    "with a row too few": (lambda value: value[1:], r"is \[\d, \d+\], not \[\d, \d+\]"),
    "with a column too few": (lambda value: value[:, 1:], r"is \[\d, \d+\], not \[\d, \d+\]"),
    "a number": (lambda value: value[0, 0], r"is \[\], not \[\d, \d+\]"),
    "in another precision": (lambda value: value.float(), "dtype"),
    "elsewhere": (lambda value: value.to("meta"), "meta"),
}


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("argument", directions_and_grad())
@pytest.mark.parametrize(("change", "message"), BAD_HIGHER.values(), ids=BAD_HIGHER.keys())
def test_operators_name_what_does_not_fit_of_gradients(argument, change, message):
    bad = {argument: change(directions_and_grad()[argument])}
    for operator in OPERATORS[1:] if argument == "grad" else OPERATORS[2:]:
        with pytest.raises((RuntimeError, KernelError), match=message) as raised:
            call_operator(operator, bad)
        assert argument in str(raised.value)


@pytest.mark.usefixtures("_kernels")
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("spec", ["", "no specification", "2x0e|0e|0,0,0e"])
def test_operators_name_a_spec_without_kernels(operator, spec):
    with pytest.raises(RuntimeError, match=f"no kernel was loaded for {spec}"):
        call_operator(operator, {}, spec)


@pytest.mark.usefixtures("_kernels")
def test_kernels_of_the_second_order_alone_do_not_serve_the_first():
    source = cpu_source(SPEC, "double", "second")
    library = build_library(source, INSTRUCTION_SETS[instruction_set()], find_compiler(), CSRC)
    load_kernel("the second order alone", 8, library)
    for operator in OPERATORS:
        with pytest.raises(RuntimeError, match="no kernel was loaded for the second order alone"):
            call_operator(operator, {}, "the second order alone")


# ---- Weights from a table

BAD_TABLES = {
    "position in float32": ("position", lambda value: value.float(), r"float32 .*not torch\.float64"),
    "position with an edge too few": ("position", lambda value: value[1:], r"is \[3\], not \[4\]"),
    "position elsewhere": ("position", lambda value: value.to("meta"), "meta"),
    "knots of another precision": ("knots", lambda value: value.float(), r"float32 .*not torch\.float64"),
    "knots without curvatures": ("knots", lambda value: value[:, :2], r"is \[3, 2, \d+\], not \[knot, 3"),
    "one knot": ("knots", lambda value: value[:1], r"\[1, 3, \d+\], not \[2 or more, 3"),
}


@pytest.mark.parametrize(BAD_NAMES, BAD_TABLES.values(), ids=BAD_TABLES.keys())
def test_tables_that_do_not_fit_are_named(argument, change, message):
    x, sh, _, edges = problem(SPEC, ATOMS, EDGES)
    good = {"position": torch.ones(EDGES, dtype=x.dtype), "knots": x.new_ones(3, 3, SPEC.num_weights)}
    with pytest.raises(KernelError, match=message) as raised:
        convolve_tabulated(
            x, sh, **(good | {argument: change(good[argument])}), edges=edges, spec=SPEC, backend="cpu"
        )
    assert argument in str(raised.value)


@pytest.mark.parametrize("place", [-1e300, -0.5, 1e300, float("inf"), float("-inf"), float("nan")])
def test_no_position_reads_outside_the_table(place):
    x, sh, _, edges = problem(SPEC, ATOMS, EDGES)
    position = torch.full((EDGES,), place, dtype=x.dtype, requires_grad=True)
    knots = x.new_ones(3, 3, SPEC.num_weights)
    out = convolve_tabulated(x, sh, position, knots, edges, spec=SPEC, backend="cpu")
    torch.autograd.grad(out.sum(), position)
