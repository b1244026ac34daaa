"""Triton source for one contraction: the Clebsch-Gordan sums written out. See README.md.

Three kernels compute the derivatives of `Σ_factors Φ(grad, tensors, env, weight)`: by grad (the contraction
itself), by tensors, and by row (by env and weight). With the factors (tensors, env, weight) alone these are
the value and its gradient; with (a, env, weight), (tensors, b, weight) and (tensors, env, c) they are the
Hessian along (a, b, c).

A program is one warp: it has one row and goes through its edges, a tile of edges x channels at a time, with
one number for each thread. In registers are the row's `T_ik = Σ_p w_p Σ_j C_pijk e_j`, or its sums
`D_ik = Σ_edges grad_k tensors_i`; so that they fit, units of work share them out. Each is a function of its
own that is never inlined, since Triton's compile time grows with the cube of a function's length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import NamedTuple, TypeVar

from allegro.contraction.layout import Term, first_components, terms
from allegro.contraction.spec import ContractionSpec
from nequip.kernels.generated_triton import Dtype, KernelSource, Order, distinct, indent

WARP = 32
# Of T or D in one unit: each takes a register of every thread, or two.
MAX_ENTRIES: dict[Dtype, int] = {"float32": 96, "float64": 48}

Entry = tuple[int, int]  # (i, k): components of the input and of the output
Entries = dict[int, dict[int, Entry]]  # T by result and source: out_r = Σ_s T[r][s] x_s
Key = TypeVar("Key")


class Factors(NamedTuple):
    """Names of the arrays that stand for tensors, env and weight in one Φ."""

    tensors: str
    env: str
    weight: str


FACTORS: dict[Order, tuple[Factors, ...]] = {
    "first": (Factors("tensors", "env", "weight"),),
    "second": (
        Factors("a", "env", "weight"),
        Factors("tensors", "b", "weight"),
        Factors("tensors", "env", "c"),
    ),
}


class KernelSources(NamedTuple):
    """The three derivatives."""

    by_grad: KernelSource
    by_tensors: KernelSource
    by_row: KernelSource


def tile_channels(spec: ContractionSpec) -> int:
    """How many channels a program has."""
    return min(WARP, 1 << (spec.channels - 1).bit_length())


def triton_sources(spec: ContractionSpec, dtype: Dtype, order: Order) -> KernelSources:
    """The kernels of one specification."""
    writer = _Writer(spec, dtype, FACTORS[order])
    return KernelSources(writer.by_grad(), writer.by_tensors(), writer.by_row())


class _Writer:
    """Writes the kernels of one specification and its factors.

    Attributes:
        terms: of each entry T_ik.
        width: numbers for each channel in a row of an array, by its name.
    """

    def __init__(self, spec: ContractionSpec, dtype: Dtype, factors: tuple[Factors, ...]):
        self.spec, self.factors = spec, factors
        self.max_entries = MAX_ENTRIES[dtype]
        self.terms: dict[Entry, list[Term]] = defaultdict(list)
        for term in terms(spec):
            self.terms[term.i, term.k].append(term)
        starts = [first_components(irreps) for irreps in (spec.irreps_in, spec.irreps_env, spec.irreps_out)]
        self.starts_in, _, self.starts_out = starts
        widths = dict(zip(("tensors", "env", "out"), (start[-1] for start in starts), strict=True))
        widths |= {"a": widths["tensors"], "b": widths["env"], "grad": widths["out"]}
        widths |= {"weight": len(spec.paths), "c": len(spec.paths)}
        self.width = widths | {f"d{name}": widths[name] for name in ("tensors", "env", "weight")}
        self.tile_channels = tile_channels(spec)
        self.tile_edges = WARP // self.tile_channels
        self.ragged = spec.channels % self.tile_channels != 0
        self.shape = f"[{self.tile_edges}, {self.tile_channels}]"
        self.zeros = f"tl.zeros({self.shape}, tl.{dtype})"

    # ---- The kernels ----------------------------------------------------------------------------------

    def by_grad(self) -> KernelSource:
        """`out_k = Σ_i T_ik tensors_i` of every edge: each array that stands for tensors has its own T."""
        tables = _by_tensors(self.factors)
        entries: Entries = {k: {} for k in range(self.width["out"])}
        for i, k in self.terms:
            entries[k][i] = i, k
        units = _share_out(entries, lambda k: len(entries[k]) * len(tables), self.max_entries)
        bodies = [self._apply("out", {k: entries[k] for k in unit}, tables) for unit in units]
        return self._kernel("by_grad", [*_arrays(self.factors), "row_ptr", "out"], bodies)

    def by_tensors(self) -> KernelSource:
        """`dtensors_i = Σ_k T_ik grad_k` of every edge."""
        factors = _by_tensors(self.factors)["tensors"]
        entries: Entries = {i: {} for i in range(self.width["tensors"])}
        for i, k in self.terms:
            entries[i][k] = i, k
        units = _share_out(entries, lambda i: len(entries[i]), self.max_entries)
        bodies = [self._apply("dtensors", {i: entries[i] for i in unit}, {"grad": factors}) for unit in units]
        arrays = [name for name in _arrays(factors) if name != "tensors"]
        return self._kernel("by_tensors", ["grad", *arrays, "row_ptr", "dtensors"], bodies)

    def by_row(self) -> KernelSource:
        """What each row adds to dweight, one part for each array that stands for tensors; and what each
        unit adds to the row's denv."""
        pairs: dict[tuple[int, int], list[Entry]] = {}  # of blocks that a path joins: it is in one unit
        for path in self.spec.paths:
            inputs = range(*self.starts_in[path.block_in : path.block_in + 2])
            outputs = range(*self.starts_out[path.block_out : path.block_out + 2])
            entries = [entry for entry in product(inputs, outputs) if entry in self.terms]
            pairs[path.block_in, path.block_out] = entries
        groups = _share_out(pairs, lambda pair: len(pairs[pair]), self.max_entries)
        bodies: list[list[str]] = []
        for number, (x, factors) in enumerate(_by_tensors(self.factors).items()):
            for group in groups:
                entries = [entry for pair in group for entry in pairs[pair]]
                bodies += [self._collect(x, entries, factors, (number, len(bodies)))]
        arrays = ["grad", *_arrays(self.factors), "row_ptr", "denv", "dweight", "num_rows"]
        return self._kernel("by_row", arrays, bodies)

    def _kernel(self, name: str, arrays: Sequence[str], bodies: Sequence[list[str]]) -> KernelSource:
        """A function for each unit, and the kernel that calls it: the units of a row run side by side."""
        name = f"contract_{name}" if len(self.factors) == 1 else f"contract_{name}_second"
        declared = ", ".join(arrays)
        functions: list[str] = []
        calls: list[str] = []
        for number, body in enumerate(bodies):
            functions += ["@triton.jit(noinline=True)", f"def {name}_{number}({declared}, row, block):"]
            functions += [*indent([*self._start(), *body]), "", ""]
            calls += [f"{'elif' if calls else 'if'} unit == {number}:"]
            calls += [f"    {name}_{number}({declared}, row, block)"]
        # the number of rows changes from step to step, and must be no reason to compile anew
        decorator = "@triton.jit(do_not_specialize=['num_rows'])" if "num_rows" in arrays else "@triton.jit"
        units = len(bodies)
        lines = ["import triton", "import triton.language as tl", "", "", *functions, decorator]
        lines += [f"def {name}({declared}):"]
        lines += [f"    row = (tl.program_id(0) // {units}).to(tl.int64)"]
        lines += [f"    unit = tl.program_id(0) % {units}"]
        lines += ["    block = tl.program_id(1)", *indent(calls), ""]
        return KernelSource(name, "\n".join(lines), units)

    # ---- What a unit does -----------------------------------------------------------------------------

    def _apply(self, out: str, entries: Entries, tables: dict[str, list[Factors]]) -> list[str]:
        """`out_r = Σ_x Σ_s T_rs x_s` of every edge, with the T of each array x that `tables` names."""
        lines: list[str] = []
        edge: list[str] = []
        for x, factors in tables.items():
            lines += self._tabulate(x, [entry for row in entries.values() for entry in row.values()], factors)
            edge += self._load(x, sorted({s for row in entries.values() for s in row}), "edge")
        edge += [self._address(out, "edge")]
        for r, row in entries.items():
            products = [f"{_entry(x, entry)} * {x}_{s}" for x in tables for s, entry in row.items()]
            edge += [self._store(out, r, " + ".join(products) or self.zeros, "inside")]
        return [*lines, *self._over_edges(edge)]

    def _tabulate(self, x: str, entries: Iterable[Entry], factors: Sequence[Factors]) -> list[str]:
        """`T_ik = Σ_factors Σ_p weight_p Σ_j C_pijk env_j`."""
        lines = self._load_factors([term for entry in entries for term in self.terms[entry]], factors)
        for entry in entries:
            by_path: dict[int, list[Term]] = defaultdict(list)
            for term in self.terms[entry]:
                by_path[term.path].append(term)
            products = [
                f"{f.weight}_{p} * ({' + '.join(f'{t.value!r} * {f.env}_{t.j}' for t in same)})"
                for f in factors
                for p, same in by_path.items()
            ]
            lines += [f"{_entry(x, entry)} = {' + '.join(products)}"]
        return lines

    def _collect(
        self, x: str, entries: Sequence[Entry], factors: Sequence[Factors], places: tuple[int, int]
    ) -> list[str]:
        """With `q_pj = Σ_ik C_pijk D_ik`: `dweight_p = Σ_j env_j q_pj` and `denv_j = Σ_p weight_p q_pj`,
        each to a part of its own, at `places`."""
        products: dict[tuple[int, int], list[Term]] = defaultdict(list)
        for term in (term for entry in entries for term in self.terms[entry]):
            products[term.path, term.j].append(term)
        edge = self._load(x, sorted({i for i, _ in entries}), "edge", "inside")
        edge += self._load("grad", sorted({k for _, k in entries}), "edge")
        edge += [f"{_entry(x, (i, k))} += {x}_{i} * grad_{k}" for i, k in entries]
        lines = [f"{_entry(x, entry)} = {self.zeros}" for entry in entries]
        lines += self._over_edges(edge)

        paths, components = (sorted({key[place] for key in products}) for place in (0, 1))
        lines += self._load_factors([t for same in products.values() for t in same], factors)
        lines += [f"dweight_{p} = {self.zeros}" for p in paths]
        lines += [f"denv_{j} = {self.zeros}" for j in components]
        for (p, j), same in products.items():
            lines += [f"q = {' + '.join(f'{t.value!r} * {_entry(x, (t.i, t.k))}' for t in same)}"]
            lines += [f"dweight_{p} += {f.env}_{j} * q" for f in factors if f.weight == "weight"]
            lines += [f"denv_{j} += {f.weight}_{p} * q" for f in factors if f.env == "env"]

        first = f"tl.broadcast_to(tl.arange(0, {self.tile_edges})[:, None] == 0, {self.shape})"
        lines += [f"once = {self._and_kept(first)}"]
        at_weight, at_env = (f"({place} * num_rows.to(tl.int64) + row)" for place in places)
        lines += [self._address("dweight", at_weight)]
        lines += [self._store("dweight", p, self._sum(f"dweight_{p}"), "once") for p in paths]
        lines += [self._address("denv", at_env)]
        for j in range(self.width["env"]):
            value = self._sum(f"denv_{j}") if j in components else self.zeros
            lines += [self._store("denv", j, value, "once")]
        return lines

    # ---- Parts of it ----------------------------------------------------------------------------------

    def _start(self) -> list[str]:
        """The edges of the row and the channels of a tile; where the last is not full, which there are."""
        channel = f"block * {self.tile_channels} + tl.arange(0, {self.tile_channels})[None, :]"
        lines = ["first = tl.load(row_ptr + row)", "last = tl.load(row_ptr + row + 1)"]
        lines += [f"channel = tl.broadcast_to({channel}, {self.shape})"]
        return [*lines, f"kept = channel < {self.spec.channels}"] if self.ragged else lines

    def _over_edges(self, edge: list[str]) -> list[str]:
        """A loop over the edges of a row. Beyond the last one it is read again; `inside` leaves it out."""
        inside = f"tl.broadcast_to(slot < last, {self.shape})"
        return [
            f"for start in range(first, last, {self.tile_edges}):",
            f"    slot = start + tl.arange(0, {self.tile_edges})[:, None]",
            f"    inside = {self._and_kept(inside)}",
            "    edge = tl.minimum(slot, last - 1)",
            *indent(edge),
        ]

    def _load_factors(self, needed: Sequence[Term], factors: Sequence[Factors]) -> list[str]:
        """What the terms take of the row's environment and of the weights."""
        lines: list[str] = []
        for env in distinct(f.env for f in factors):
            lines += self._load(env, sorted({term.j for term in needed}), "row")
        for weight in distinct(f.weight for f in factors):
            lines += self._load(weight, sorted({term.path for term in needed}), "0")
        return lines

    def _load(self, array: str, components: Iterable[int], row: str, mask: str = "") -> list[str]:
        """Components of a row of an array; without `mask`, in every channel that there is."""
        mask = mask or ("kept" if self.ragged else "")
        masked = f", mask={mask}, other=0.0" if mask else ""
        columns = ((c, c * self.spec.channels) for c in components)
        loads = [f"{array}_{c} = tl.load({array}_at + {column}{masked})" for c, column in columns]
        return [self._address(array, row), *loads]

    def _address(self, array: str, row: str) -> str:
        return f"{array}_at = {array} + {row} * {self.width[array] * self.spec.channels} + channel"

    def _store(self, array: str, component: int, value: str, mask: str) -> str:
        return f"tl.store({array}_at + {component * self.spec.channels}, {value}, mask={mask})"

    def _sum(self, tile: str) -> str:
        """Over the edges of a tile, for every thread: one of [1, channel] would go through shared memory."""
        return f"tl.broadcast_to(tl.sum({tile}, axis=0, keep_dims=True), {self.shape})"

    def _and_kept(self, condition: str) -> str:
        return f"{condition} & kept" if self.ragged else condition


def _entry(x: str, entry: Entry) -> str:
    """T or D of the array x."""
    return f"{x}_{entry[0]}_{entry[1]}"


def _by_tensors(factors: Iterable[Factors]) -> dict[str, list[Factors]]:
    grouped: dict[str, list[Factors]] = {}
    for some in factors:
        grouped.setdefault(some.tensors, []).append(some)
    return grouped


def _arrays(factors: Iterable[Factors]) -> list[str]:
    """Names of the arrays in the factors: tensors, env, weight."""
    return distinct(name for kind in zip(*factors, strict=True) for name in kind)


def _share_out(keys: Iterable[Key], entries: Callable[[Key], int], at_most: int) -> list[list[Key]]:
    """Keys in their order, in groups of at most so many entries, or of one key."""
    groups: list[list[Key]] = []
    left = 0
    for key in keys:
        if not groups or entries(key) > left:
            groups.append([])
            left = at_most
        groups[-1].append(key)
        left -= entries(key)
    return groups
