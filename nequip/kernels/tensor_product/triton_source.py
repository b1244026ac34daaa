"""Triton source for one convolution: the Clebsch-Gordan sums written out. See README.md.

Three kernels compute the derivatives of `Σ_terms Φ(grad, x, sh, weight)`: by grad (the convolution
itself), by x, and by edge (by sh and weight). With the one term (x, sh, weight) these are the value and
its gradient; with (a, sh, weight), (x, b, weight) and (x, sh, c) they are the Hessian along (a, b, c).

A program is one warp and holds tiles of edges x channels. The second axis of the grid is a unit of work:
some paths of one input block, and a block of channels. Each group of paths is a function of its own that
is never inlined, since Triton's compile time grows with the cube of a function's length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from nequip.kernels.generated_triton import Dtype, KernelSource, Order, distinct, indent
from nequip.kernels.tensor_product.layout import PathLayout
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.kernels.tensor_product.triton_groups import Group, plan

TILE = {"float32": 128, "float64": 64}  # elements: 16 bytes for each thread, the widest load there is
MAX_CHANNELS = 32  # of a tile
MAX_COMPONENTS = 24  # of the output, in one group of paths: each is a tile in registers


class Term(NamedTuple):
    """Names of the arrays that stand for x, sh and weight in one Φ."""

    x: str
    sh: str
    weight: str


TERMS: dict[Order, tuple[Term, ...]] = {
    "first": (Term("x", "sh", "weight"),),
    "second": (Term("a", "sh", "weight"), Term("x", "b", "weight"), Term("x", "sh", "c")),
}


class KernelSources(NamedTuple):
    """The three derivatives, and how many edges a tile holds."""

    by_grad: KernelSource
    by_x: KernelSource
    by_edge: KernelSource
    tile_edges: int


def triton_sources(spec: TensorProductSpec, dtype: Dtype, order: Order) -> KernelSources:
    """The kernels of one specification."""
    writer = _Writer(spec, dtype, TERMS[order])
    return KernelSources(writer.by_grad(), writer.by_x(), writer.by_edge(), writer.tile_edges)


class _Writer:
    """Writes the kernels of one specification and its terms."""

    def __init__(self, spec: TensorProductSpec, dtype: Dtype, terms: tuple[Term, ...]):
        self.spec = spec
        self.terms = terms
        self.terms_with_x = [term for term in terms if term.x == "x"]
        widest = max((mul for mul, _ in spec.irreps_in), default=1)
        self.tile_channels = min(MAX_CHANNELS, 1 << (widest - 1).bit_length())
        self.tile_edges = TILE[dtype] // self.tile_channels
        self.zeros = f"tl.zeros([{self.tile_edges}, {self.tile_channels}], tl.{dtype})"

    def by_grad(self) -> KernelSource:
        """`out[row] = Σ_edges Σ_paths Σ_terms w C(x[neighbor], sh)`."""
        arrays = [*_arrays(self.terms), "neighbor", "row_ptr", "out"]
        groups = [group for group in plan(self.spec, MAX_COMPONENTS) if group.paths]
        return self._kernel("by_grad", arrays, groups, self._sum_by_grad)

    def by_x(self) -> KernelSource:
        """`dx[atom] = Σ_edges Σ_paths Σ_terms w Cᵀ(grad[center], sh)`, edges in the order of neighbors."""
        names = [name for name in _arrays(self.terms_with_x) if name != "x"]
        arrays = ["grad", *names, "center", "transpose", "neighbor_ptr", "dx"]
        return self._kernel("by_x", arrays, plan(self.spec, None), self._sum_by_x)

    def by_edge(self) -> KernelSource:
        """`dweight`, and the part of `dsh` that each unit contributes."""
        arrays = ["grad", *_arrays(self.terms), "center", "neighbor", "dsh", "dweight", "num_edges"]
        groups = [group for group in plan(self.spec, MAX_COMPONENTS) if group.paths]
        return self._kernel("by_edge", arrays, groups, self._products_by_edge)

    def _kernel(
        self, name: str, arrays: Sequence[str], groups: Sequence[Group], body: Callable[[Group], list[str]]
    ) -> KernelSource:
        """A function for each group, and the kernel that calls the function of its unit."""
        name = f"conv_{name}" if len(self.terms) == 1 else f"conv_{name}_second"
        declared = ", ".join(arrays)
        functions: list[str] = []
        calls: list[str] = []
        units = 0
        for number, group in enumerate(groups):
            blocks = -(-group.mul // self.tile_channels)
            twin = f"(unit - {units}) // {blocks}" if len(group.members) == 2 else "0"
            block = f"(unit - {units}) % {blocks}" if blocks > 1 else "0"
            units += blocks * len(group.members)
            functions += ["@triton.jit(noinline=True)"]
            functions += [f"def {name}_{number}({declared}, unit, twin, block):"]
            functions += [*indent([*self._channels(group), *body(group)]), "", ""]
            calls += [f"{'elif' if calls else 'if'} unit < {units}:"]
            calls += [f"    {name}_{number}({declared}, unit, {twin}, {block})"]
        # the number of edges changes from step to step, and must be no reason to compile anew
        decorator = "@triton.jit(do_not_specialize=['num_edges'])" if "num_edges" in arrays else "@triton.jit"
        lines = ["import triton", "import triton.language as tl", "", "", *functions, decorator]
        lines += [f"def {name}({declared}):", "    unit = tl.program_id(1)", *indent(calls), ""]
        return KernelSource(name, "\n".join(lines), units)

    def _sum_by_grad(self, group: Group) -> list[str]:
        edge = ["edge = tl.minimum(slot, last - 1)", "source = tl.load(neighbor + edge)"]
        edge += [*self._features(group), *self._harmonics(group, self.terms)]
        for n, path in enumerate(group.paths):
            edge += self._weights(group, n, self.terms)
            for sh, terms in _by_harmonics(self.terms).items():
                for i in group.components_in:
                    edge += [f"z{i} = " + " + ".join(f"{t.weight}_u * {t.x}_{i}" for t in terms)]
                edge += [f"out_{n}_{k} += ({m}) * z{i}" for i, k, m in _couplings(path, sh)]
        sums = [f"out_{n}_{k}" for n, path in enumerate(group.paths) for k in path.by_output]
        lines = self._over_edges(group, "row_ptr", sums, edge)
        for n, path in enumerate(group.paths):
            lines += [f"out_at = out + (row * {self.spec.irreps_out.dim} + {group.column_out(n)}) + channel"]
            for k in path.by_output:
                lines += [self._store_sum(f"out_at + {k * path.stride}", f"out_{n}_{k}")]
        return lines

    def _sum_by_x(self, group: Group) -> list[str]:
        edge = ["edge = tl.load(transpose + tl.minimum(slot, last - 1))", "target = tl.load(center + edge)"]
        edge += self._harmonics(group, self.terms_with_x)
        for n, path in enumerate(group.paths):
            edge += [*self._weights(group, n, self.terms_with_x), *self._gradients(group, n)]
            for sh, terms in _by_harmonics(self.terms_with_x).items():
                for k in path.by_output:
                    edge += [f"z{k} = " + " + ".join(f"{t.weight}_u * grad_{k}" for t in terms)]
                edge += [f"dx_{i} += ({m}) * z{k}" for i, k, m in _couplings(path, sh)]
        lines = self._over_edges(group, "neighbor_ptr", [f"dx_{i}" for i in group.components_in], edge)
        lines += [f"dx_at = dx + (row * {self.spec.irreps_in.dim} + {group.column_in}) + channel"]
        for i in group.components_in:
            lines += [self._store_sum(f"dx_at + {i * group.mul}", f"dx_{i}")]
        return lines

    def _products_by_edge(self, group: Group) -> list[str]:
        """With `q_j = Σ_ik C_ijk grad_k x_i`: `dw = Σ_j sh_j q_j` and `dsh_j = Σ_channels w q_j`."""
        step, width = self.tile_edges, self.spec.irreps_sh.dim
        lines = [
            f"slot = tl.program_id(0).to(tl.int64) * {step} + tl.arange(0, {step})[:, None]",
            f"inside = {self._and_kept(group, 'slot < num_edges')}",
            "edge = tl.minimum(slot, num_edges - 1)",
            "source = tl.load(neighbor + edge)",
            "target = tl.load(center + edge)",
            *self._features(group),
            *self._harmonics(group, self.terms),
            *(f"dsh_{j} = {self.zeros}" for j in group.harmonics),
        ]
        for n, path in enumerate(group.paths):
            lines += [*self._weights(group, n, self.terms), *self._gradients(group, n)]
            for x in distinct(term.x for term in self.terms):
                lines += [f"q_{x}_{j} = {self.zeros}" for j in path.harmonics]
                for i, j, k, value in path.entries:
                    lines += [f"q_{x}_{j} += {value!r} * (grad_{k} * {x}_{i})"]
            lines += [f"dw = {self.zeros}"]
            for j in path.harmonics:
                at = path.harmonic + j
                lines += [f"dw += {t.sh}_{at} * q_{t.x}_{j}" for t in self.terms if t.weight == "weight"]
                lines += [f"dsh_{at} += {t.weight}_u * q_{t.x}_{j}" for t in self.terms if t.sh == "sh"]
            address = f"dweight + (edge * {self.spec.num_weights} + {group.column_weight(n)}) + channel"
            lines += [f"tl.store({address}, dw, mask=inside)"]
        lines += [f"dsh_at = dsh + (unit.to(tl.int64) * num_edges + slot) * {width}"]
        for j in range(width):
            total = f"tl.sum(dsh_{j}, axis=1, keep_dims=True)" if j in group.harmonics else "0.0"
            lines += [f"tl.store(dsh_at + {j}, {total}, mask=slot < num_edges)"]
        return lines

    def _over_edges(self, group: Group, pointers: str, sums: list[str], edge: list[str]) -> list[str]:
        """Tiles `sums` to which the lines `edge` add what the edges at `slot` contribute to a row."""
        first = f"tl.arange(0, {self.tile_edges})[:, None] == 0"
        lines = ["row = tl.program_id(0).to(tl.int64)", f"once = {self._and_kept(group, first)}"]
        lines += [f"{name} = {self.zeros}" for name in sums]
        if not group.paths:
            return lines
        return [
            *lines,
            f"first = tl.load({pointers} + row)",
            f"last = tl.load({pointers} + row + 1)",
            f"for start in range(first, last, {self.tile_edges}):",
            f"    slot = start + tl.arange(0, {self.tile_edges})[:, None]",
            f"    inside = {self._and_kept(group, 'slot < last')}",
            *indent(edge),
        ]

    def _channels(self, group: Group) -> list[str]:
        """The channels of a tile and, where the last tile is not full, which of them there are."""
        channel = f"channel = block * {self.tile_channels} + tl.arange(0, {self.tile_channels})[None, :]"
        return [channel, f"kept = channel < {group.mul}"] if self._ragged(group) else [channel]

    def _ragged(self, group: Group) -> bool:
        return group.mul % self.tile_channels != 0

    def _and_kept(self, group: Group, condition: str) -> str:
        return f"({condition}) & kept" if self._ragged(group) else condition

    def _store_sum(self, address: str, sums: str) -> str:
        """The sum over the edges of a tile, written by the threads of its first edge: a store of
        [1, channel] would first be moved through shared memory to other threads."""
        shape = f"[{self.tile_edges}, {self.tile_channels}]"
        total = f"tl.broadcast_to(tl.sum({sums}, axis=0, keep_dims=True), {shape})"
        return f"tl.store(tl.broadcast_to({address}, {shape}), {total}, mask=once)"

    def _features(self, group: Group) -> Iterator[str]:
        mask = ", mask=kept, other=0.0" if self._ragged(group) else ""
        for x in distinct(term.x for term in self.terms):
            yield f"{x}_at = {x} + (source * {self.spec.irreps_in.dim} + {group.column_in}) + channel"
            for i in group.components_in:
                yield f"{x}_{i} = tl.load({x}_at + {i * group.mul}{mask})"

    def _gradients(self, group: Group, n: int) -> Iterator[str]:
        mask = ", mask=kept, other=0.0" if self._ragged(group) else ""
        path = group.paths[n]
        yield f"grad_at = grad + (target * {self.spec.irreps_out.dim} + {group.column_out(n)}) + channel"
        for k in path.by_output:
            yield f"grad_{k} = tl.load(grad_at + {k * path.stride}{mask})"

    def _harmonics(self, group: Group, terms: Iterable[Term]) -> Iterator[str]:
        for sh in distinct(term.sh for term in terms):
            yield f"{sh}_at = {sh} + edge * {self.spec.irreps_sh.dim}"
            for j in group.harmonics:
                yield f"{sh}_{j} = tl.load({sh}_at + {j})"

    def _weights(self, group: Group, n: int, terms: Iterable[Term]) -> Iterator[str]:
        """Weights of path n; zero beyond the last edge, which is then read again and again."""
        for w in distinct(term.weight for term in terms):
            address = f"{w} + (edge * {self.spec.num_weights} + {group.column_weight(n)}) + channel"
            yield f"{w}_u = tl.load({address}, mask=inside, other=0.0)"


def _couplings(path: PathLayout, sh: str) -> Iterator[tuple[int, int, str]]:
    """(i, k, `Σ_j C_ijk sh_j` as text)."""
    for k, column in path.by_output.items():
        for i, entries in column.items():
            yield i, k, " + ".join(f"{value!r} * {sh}_{path.harmonic + j}" for j, value in entries)


def _by_harmonics(terms: Iterable[Term]) -> dict[str, list[Term]]:
    grouped: dict[str, list[Term]] = {}
    for term in terms:
        grouped.setdefault(term.sh, []).append(term)
    return grouped


def _arrays(terms: Iterable[Term]) -> list[str]:
    """Names of the arrays in the terms: features, harmonics, weights."""
    return distinct(name for kind in zip(*terms, strict=True) for name in kind)
