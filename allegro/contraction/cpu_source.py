"""C++ for one contraction: the Clebsch-Gordan sums written out, channels in vectors. See README.md.

The loops over rows and channels are in nequip/kernels/csrc/contraction_kernel.h, which says what the
functions written here compute.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from allegro.contraction.layout import Term, first_components, terms
from allegro.contraction.spec import ContractionSpec

# Sums over edges that are in registers at a time; AVX-512 has 32, and two more factors.
ENTRIES_AT_ONCE = 24


def cpu_source(spec: ContractionSpec, scalar: str) -> str:
    """The source of one kernel library, with `scalar` "float" or "double"."""
    writer = _Writer(spec)
    components = (irreps.dim for irreps in (spec.irreps_in, spec.irreps_env, spec.irreps_out))
    dims = ", ".join(
        f"DIM_{name} = {dim}" for name, dim in zip(("IN", "ENV", "OUT"), components, strict=True)
    )
    parts = [
        f"// {spec}",
        f"typedef {scalar} Scalar;",
        f"constexpr int CHANNELS = {spec.channels}, {dims};",
        f"constexpr int NUM_PATHS = {len(spec.paths)}, NUM_ENTRIES = {len(writer.entries)};",
        '#include "contraction_kernel.h"',
        "namespace {",
        *writer.tabulate(),
        *writer.apply(),
        *writer.apply_transposed(),
        *writer.outer(),
        *writer.collect(),
        "}  // namespace",
        "",
    ]
    return "\n".join(parts)


class _Writer:
    """Writes the functions of one spec, each in parts that a compiler handles well.

    Attributes:
        entries: number of each entry T_ik by (k, i).
    """

    def __init__(self, spec: ContractionSpec):
        self.spec = spec
        self.terms = terms(spec)
        self.starts_in = first_components(spec.irreps_in)
        self.starts_out = first_components(spec.irreps_out)
        self.entries = {key: n for n, key in enumerate(sorted({(term.k, term.i) for term in self.terms}))}

    def tabulate(self) -> list[str]:
        """`T_ik = Σ_p W_p Σ_j C_pijk E_j`, one part for each output block."""
        arguments = "const Scalar* env, const Scalar* weight, Scalar* T"
        parts: list[list[str]] = []
        for first, last in pairwise(self.starts_out):
            block = [term for term in self.terms if first <= term.k < last]
            lines = [_load("e", j, "env") for j in sorted({term.j for term in block})]
            lines += [_load("w", p, "weight") for p in sorted({term.path for term in block})]
            for (k, i), n in self.entries.items():
                if first <= k < last:
                    lines.append(f"put<N, Add>(T + {n} * N, {_entry(block, i, k)});")
            parts.append(lines)
        return _functions("tabulate", "int N, bool Add", "N, Add", arguments, parts)

    def apply(self) -> list[str]:
        """`V'_k = Σ_i T_ik V_i` of every edge, one part for each output block."""
        arguments = "const Scalar* T, const Scalar* x, Scalar* out, int64_t edges"
        columns: dict[int, dict[int, int]] = defaultdict(dict)
        for (k, i), n in self.entries.items():
            columns[k][i] = n
        parts = [
            _over_edges(
                {"x": "DIM_IN", "out": "DIM_OUT"}, _products(columns, range(*block), "x", "put<N, Add>(out")
            )
            for block in pairwise(self.starts_out)
        ]
        return _functions("apply", "int N, bool Add", "N, Add", arguments, parts)

    def apply_transposed(self) -> list[str]:
        """`dV_i = Σ_k T_ik g_k` of every edge, one part for each input block."""
        arguments = "const Scalar* T, const Scalar* grad, Scalar* dx, int64_t edges"
        columns: dict[int, dict[int, int]] = defaultdict(dict)
        for (k, i), n in self.entries.items():
            columns[i][k] = n
        parts = [
            _over_edges(
                {"grad": "DIM_OUT", "dx": "DIM_IN"}, _products(columns, range(*block), "grad", "store<N>(dx")
            )
            for block in pairwise(self.starts_in)
        ]
        return _functions("apply_transposed", "int N", "N", arguments, parts)

    def outer(self) -> list[str]:
        """`D_ik = Σ_edges g_k V_i`, a part for as many entries as registers hold."""
        arguments = "const Scalar* grad, const Scalar* x, Scalar* D, int64_t edges"
        keys = list(self.entries)
        parts: list[list[str]] = []
        for start in range(0, len(keys), ENTRIES_AT_ONCE):
            group = keys[start : start + ENTRIES_AT_ONCE]
            sums = [_load("grad", k, "grad") for k in sorted({k for k, _ in group})]
            sums += [_load("x", i, "x") for i in sorted({i for _, i in group})]
            sums += [f"d{self.entries[k, i]} += grad{k} * x{i};" for k, i in group]
            parts.append(
                [f"Vector<N> d{self.entries[key]} = {{}};" for key in group]
                + _over_edges({"grad": "DIM_OUT", "x": "DIM_IN"}, sums)
                + [f"store<N>(D + {self.entries[key]} * N, d{self.entries[key]});" for key in group]
            )
        return _functions("outer", "int N", "N", arguments, parts)

    def collect(self) -> list[str]:
        """What D adds to the gradients by E and W, one part for each path."""
        arguments = "const Scalar* D, const Scalar* env, const Scalar* weight, Scalar* denv, Scalar* dweight"
        parts: list[list[str]] = []
        for p in range(len(self.spec.paths)):
            lines = [_load("w", p, "weight"), "Vector<N> total = {};"]
            by_env: dict[int, list[Term]] = defaultdict(list)
            for term in self.terms:
                if term.path == p:
                    by_env[term.j].append(term)
            for j, group in by_env.items():
                products = (
                    f"Scalar({term.value!r}) * load<N>(D + {self.entries[term.k, term.i]} * N)"
                    for term in group
                )
                lines += [
                    f"const auto q{j} = {' + '.join(products)};",
                    f"add<N>(denv + {j} * CHANNELS, w{p} * q{j});",
                    f"total += load<N>(env + {j} * CHANNELS) * q{j};",
                ]
            lines.append(f"add<N>(dweight + {p} * CHANNELS, total);")
            parts.append(lines)
        return _functions("collect", "int N", "N", arguments, parts)


def _functions(name: str, template: str, values: str, arguments: str, parts: list[list[str]]) -> list[str]:
    """A function for each part, never inlined, and one that calls them all."""
    passed = ", ".join(argument.split()[-1] for argument in arguments.split(", "))
    written: list[str] = []
    for number, lines in enumerate(parts):
        head = f"template <{template}>\n__attribute__((noinline)) void {name}_{number}({arguments}) {{"
        written.append("\n  ".join([head, *lines]) + "\n}")
    calls = [f"{name}_{number}<{values}>({passed});" for number in range(len(parts))]
    written.append("\n  ".join([f"template <{template}>\nvoid {name}({arguments}) {{", *calls]) + "\n}")
    return written


def _over_edges(steps: dict[str, str], lines: list[str]) -> list[str]:
    """A loop over edges; `steps` says by how much each pointer goes on."""
    moves = ", ".join(f"{pointer} += {step}" for pointer, step in steps.items())
    return [f"for (; edges > 0; --edges, {moves}) {{", *(f"  {line}" for line in lines), "}"]


def _products(columns: dict[int, dict[int, int]], results: range, source: str, put: str) -> list[str]:
    """`result_r = Σ_s T[n] source_s` with `columns[r][s] = n`; zero where there is no n."""
    lines = [_load(source, s, source) for s in sorted({s for r in results for s in columns[r]})]
    for r in results:
        products = (f"load<N>(T + {n} * N) * {source}{s}" for s, n in columns[r].items())
        lines.append(f"{put} + {r} * CHANNELS, {' + '.join(products) or 'Vector<N>{}'});")
    return lines


def _load(name: str, number: int, array: str) -> str:
    return f"const auto {name}{number} = load<N>({array} + {number} * CHANNELS);"


def _entry(block: list[Term], i: int, k: int) -> str:
    """T_ik as text."""
    by_path: dict[int, list[str]] = defaultdict(list)
    for term in block:
        if (term.i, term.k) == (i, k):
            by_path[term.path].append(f"Scalar({term.value!r}) * e{term.j}")
    return " + ".join(f"w{p} * ({' + '.join(products)})" for p, products in by_path.items())
