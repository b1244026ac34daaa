"""C++ for one convolution: the Clebsch-Gordan sums written out, channels in vectors. See README.md.

The loops over rows and edges are in csrc/conv_kernel.h; generated is what one edge does, one function
for each input block, so that no function grows beyond what a compiler handles well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nequip.kernels.tensor_product.layout import Column, PathLayout, path_layouts
from nequip.kernels.tensor_product.spec import TensorProductSpec

Order = Literal["first", "second"]


def cpu_source(spec: TensorProductSpec, scalar: str, order: Order) -> str:
    """The source of one kernel library.

    Args:
        scalar: "float" or "double".
        order: "first" has the sum and its gradient; "second" the gradient of the gradient.
    """
    writer = _Writer(spec)
    parts = [
        f"// {spec}",
        f"typedef {scalar} Scalar;",
        f"#define CONV_{order.upper()}",
        f"constexpr int DIM_IN = {spec.irreps_in.dim}, DIM_SH = {spec.irreps_sh.dim};",
        f"constexpr int DIM_WEIGHT = {spec.num_weights}, DIM_OUT = {spec.irreps_out.dim};",
        f"constexpr int NUM_COUPLINGS = {max(len(writer.couplings), 1)};",
        '#include "conv_kernel.h"',
        "namespace {",
        writer.tabulate(),
    ]
    kinds = (_FORWARD, _BACKWARD) if order == "first" else (_DOUBLE_BACKWARD,)
    for kind in kinds:
        parts += [writer.block_function(kind, index) for index in writer.blocks]
        parts.append(writer.edge_function(kind))
    return "\n".join([*parts, "}  // namespace", ""])


@dataclass(frozen=True)
class _Kind:
    """One of the generated operations: the arguments of its functions, as text."""

    name: str
    declared: str
    passed: str


_FORWARD = _Kind(
    "forward",
    "const Tile& tile, int lane, const Scalar* x, const Scalar* weight, Scalar* out",
    "tile, lane, x, weight, out",
)
_BACKWARD = _Kind(
    "backward",
    "const Tile& tile, int lane, const Scalar* x, const Scalar* weight, const Scalar* grad, Scalar* dx, "
    "Scalar* dweight, Scalar* sums",
    "tile, lane, x, weight, grad, dx, dweight, sums",
)
_DOUBLE_BACKWARD = _Kind(
    "double_backward",
    "const Tile& tile, const Tile& along, int lane, const Scalar* x, const Scalar* weight, "
    "const Scalar* grad, Direction direction, Scalar* dgrad, Scalar* dx, Scalar* dweight, Scalar* sums",
    "tile, along, lane, x, weight, grad, direction, dgrad, dx, dweight, sums",
)


class _Writer:
    """Writes the functions of one spec; knows which couplings M_ik it has asked for."""

    def __init__(self, spec: TensorProductSpec):
        self.spec = spec
        self.layouts = path_layouts(spec)
        self.blocks = sorted({path.block_in for path in spec.paths})
        self.couplings: dict[tuple[tuple[int, float], ...], int] = {}
        for layout in self.layouts:
            for column in layout.by_output.values():
                for terms in column.values():
                    self._coupling(layout, terms)

    def _coupling(self, layout: PathLayout, terms: list[tuple[int, float]]) -> tuple[str, int]:
        """Sign and number of `Σ_j C_ijk Y_j`; equal sums have one number, whatever their sign."""
        sign = "+" if terms[0][1] > 0 else "-"
        key = tuple((layout.harmonic + j, value if sign == "+" else -value) for j, value in terms)
        return sign, self.couplings.setdefault(key, len(self.couplings))

    def tabulate(self) -> str:
        """The couplings of LANES edges at once."""
        lines = ["void tabulate(Tile& tile) {"]
        lines += [
            f"  const auto y{j} = load<LANES>(tile.sh + {j} * LANES);" for j in range(self.spec.irreps_sh.dim)
        ]
        for key, number in self.couplings.items():
            terms = " + ".join(f"Scalar({value!r}) * y{j}" for j, value in key)
            lines.append(f"  store<LANES>(tile.couplings + {number} * LANES, {terms});")
        return "\n".join([*lines, "}"])

    def edge_function(self, kind: _Kind) -> str:
        """All input blocks of one edge, their channels by full vectors and then by ever smaller ones."""
        lines = [f"void {kind.name}_edge({kind.declared}) {{"]
        for index in self.blocks:
            mul = self.spec.irreps_in.terms[index][0]
            call = f"{kind.name}_{index}"
            lines.append(
                f"  for (int u = 0; u + LANES <= {mul}; u += LANES) {call}<LANES>({kind.passed}, u);"
            )
            for width in (8, 4, 2, 1):
                lines.append(f"  if constexpr (LANES > {width} && ({mul} & {width}))")
                lines.append(f"    {call}<{width}>({kind.passed}, {mul} & ~{2 * width - 1});")
        return "\n".join([*lines, "}"])

    def block_function(self, kind: _Kind, index: int) -> str:
        """What one input block of one edge adds, for N channels from u."""
        layouts = [layout for layout in self.layouts if layout.path.block_in == index]
        block = self.spec.irreps_in.blocks()[index]
        components = range(block.irrep.dim)
        columns = [f"{block.offset + i * block.mul} + u" for i in components]
        lines = [
            f"template <int N>\n__attribute__((noinline)) void {kind.name}_{index}({kind.declared}, int u) {{"
        ]
        lines.append("  const Scalar *M = tile.couplings + lane, *Y = tile.sh + lane;")
        lines += [f"  const auto x{i} = load<N>(x + {columns[i]});" for i in components]
        if kind is _DOUBLE_BACKWARD:
            lines.append("  const Scalar *Mb = along.couplings + lane, *Yb = along.sh + lane;")
            lines += [f"  const auto a{i} = load<N>(direction.x + {columns[i]});" for i in components]
        if kind is not _FORWARD:
            lines += [f"  Vector<N> d{i} = {{}};" for i in components]
        body = {_FORWARD: self._forward, _BACKWARD: self._backward, _DOUBLE_BACKWARD: self._double_backward}[
            kind
        ]
        for layout in layouts:
            lines += [
                "  {",
                f"    const auto w = load<N>(weight + {layout.weight} + u);",
                *body(layout),
                "  }",
            ]
        if kind is not _FORWARD:
            lines += [f"  add<N>(dx + {columns[i]}, d{i});" for i in components]
        return "\n".join([*lines, "}"])

    def _forward(self, layout: PathLayout) -> list[str]:
        """`out_k += w Σ_i M_ik x_i`; the weight goes to the side with fewer components."""
        lines: list[str] = []
        weigh_input = layout.dim_in < layout.path.irrep_out.dim
        if weigh_input:
            lines += [f"    const auto z{i} = w * x{i};" for i in range(layout.dim_in)]
        for k, column in layout.by_output.items():
            total = self._contraction(layout, column, {"M": "z" if weigh_input else "x"})
            lines.append(
                f"    add<N>(out + {_column(layout, k)}, {total if weigh_input else f'w * ({total})'});"
            )
        return lines

    def _backward(self, layout: PathLayout) -> list[str]:
        """`dx_i += Σ_k M_ik w g_k`; `dw = Σ_j Y_j q_j`; `dY_j = Σ_u w q_j`."""
        lines: list[str] = []
        for k, column in layout.by_output.items():
            lines.append(f"    const auto g{k} = load<N>(grad + {_column(layout, k)}), gw{k} = g{k} * w;")
            lines += self._input_gradient(layout, column, {"M": f"gw{k}"})
        lines += self._products(layout, "x")
        lines.append(
            f"    store<N>(dweight + {layout.weight} + u, {self._over_harmonics(layout, {'Y': 'qx'})});"
        )
        lines += [f"    add<N>(sums + {layout.harmonic + j} * LANES, w * qx{j});" for j in layout.harmonics]
        return lines

    def _double_backward(self, layout: PathLayout) -> list[str]:
        """The same with one of x, Y, w at a time replaced by its direction a, b, c."""
        lines = [f"    const auto c = load<N>(direction.weight + {layout.weight} + u);"]
        for k, column in layout.by_output.items():
            lines.append(f"    const auto g{k} = load<N>(grad + {_column(layout, k)});")
            lines.append(f"    {{ const auto gw = g{k} * w, gc = g{k} * c;")
            lines += self._input_gradient(layout, column, {"Mb": "gw", "M": "gc"})
            turned = self._contraction(layout, column, {"M": "a", "Mb": "x"})
            plain = self._contraction(layout, column, {"M": "x"})
            lines.append(f"    add<N>(dgrad + {_column(layout, k)}, w * ({turned}) + c * ({plain})); }}")
        lines += self._products(layout, "x") + self._products(layout, "a")
        total = self._over_harmonics(layout, {"Y": "qa", "Yb": "qx"})
        lines.append(f"    store<N>(dweight + {layout.weight} + u, {total});")
        lines += [
            f"    add<N>(sums + {layout.harmonic + j} * LANES, w * qa{j} + c * qx{j});"
            for j in layout.harmonics
        ]
        return lines

    def _contraction(self, layout: PathLayout, column: Column, factors: dict[str, str]) -> str:
        """`Σ_i M_ik x_i` as text, for each pair of couplings and features."""
        terms: list[str] = []
        for table, name in factors.items():
            for i, entries in column.items():
                sign, number = self._coupling(layout, entries)
                terms.append(f"{sign} {table}[{number} * LANES] * {name}{i}")
        return " ".join(terms).removeprefix("+ ")

    def _input_gradient(self, layout: PathLayout, column: Column, factors: dict[str, str]) -> list[str]:
        lines: list[str] = []
        for i, entries in column.items():
            sign, number = self._coupling(layout, entries)
            for table, grad in factors.items():
                lines.append(f"      d{i} {sign}= {table}[{number} * LANES] * {grad};")
        return lines

    def _products(self, layout: PathLayout, name: str) -> list[str]:
        """`q_j = Σ_ik C_ijk g_k x_i`, summed over channels later: once for each j, not for each (i, k)."""
        lines = [f"    Vector<N> q{name}{j} = {{}};" for j in layout.harmonics]
        for k, column in layout.by_output.items():
            for i, entries in column.items():
                product = f"g{k} * {name}{i}"
                lines.append(f"    {{ const auto p = {product};")
                lines += [f"      q{name}{j} += Scalar({value!r}) * p;" for j, value in entries]
                lines.append("    }")
        return lines

    def _over_harmonics(self, layout: PathLayout, factors: dict[str, str]) -> str:
        return " + ".join(
            f"{table}[{layout.harmonic + j} * LANES] * {name}{j}"
            for table, name in factors.items()
            for j in layout.harmonics
        )


def _column(layout: PathLayout, k: int) -> str:
    """Where component k of the output lies, for channels from u."""
    return f"{layout.out + k * layout.stride} + u"
