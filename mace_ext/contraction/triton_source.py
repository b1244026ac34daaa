"""Triton source for one symmetric contraction. See README.md.

Three kernels compute the gradient of the derivative of `Φ(grad, x, c) = Σ grad · B(x, c)` along directions:
by grad (with no directions that is the contraction itself), by x, and by the coefficients c of all monomials.
A program is one warp. It has one component of one atom, or one monomial of one type, and some channels, and
goes through the monomials or atoms that it sums over. Which variables a monomial has is read from a table:
written out, polynomials take Triton minutes to compile, and all programs read the same few numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mace_ext.contraction import dual_numbers
from mace_ext.contraction.layout import terms
from mace_ext.contraction.spec import SymmetricSpec
from nequip.kernels.generated_triton import Dtype, KernelSource, indent

Number = dual_numbers.Number[str]

WIDEST = 128  # channels of a program


class KernelSources(NamedTuple):
    """The three derivatives."""

    by_grad: KernelSource
    by_x: KernelSource
    by_coefficients: KernelSource


def tile_channels(spec: SymmetricSpec) -> int:
    """How many channels a program has."""
    return min(WIDEST, max(32, 1 << (spec.channels - 1).bit_length()))


def triton_sources(spec: SymmetricSpec, dtype: Dtype, order: int, moving: bool) -> KernelSources:
    """The kernels along `order` directions, which change coefficients or not."""
    writer = _Writer(spec, dtype, order, moving)
    return KernelSources(writer.by_grad(), writer.by_x(), writer.by_coefficients())


class _Writer:
    """Writes the kernels of one specification and number of directions."""

    def __init__(self, spec: SymmetricSpec, dtype: Dtype, order: int, moving: bool):
        self.spec, self.order, self.moving = spec, order, moving
        self.num_terms = len(terms(spec).component)
        self.components = {
            "x": spec.irreps_in.dim // spec.channels,
            "grad": spec.irreps_out.dim // spec.channels,
            "c": self.num_terms,
        }
        self.tile = tile_channels(spec)
        self.zeros = f"tl.zeros([{self.tile}], tl.{dtype})"

    def by_grad(self) -> KernelSource:
        """`Σ_t c_t Π x` over the terms of a component."""
        factors = self.spec.correlation
        return self._kernel(
            "by_grad",
            ["x", "along_x", "c", "along_c", "types", "component_ptr", "variables", "out", "num_atoms"],
            [
                *self._atom_and("component", self.components["grad"]),
                "first = tl.load(component_ptr + component)",
                "last = tl.load(component_ptr + component + 1)",
                f"total = {self.zeros}",
                "for term in range(first, last):",
                *indent(self._load("c", "c", "type", "term", "num_types")),
                *indent(self._load_variables("variables", "term", factors)),
                *indent(self._add_last(["c", *(f"x{n}" for n in range(factors))])),
                self._store("out", f"(atom * {self.components['grad']} + component)"),
            ],
        )

    def by_x(self) -> KernelSource:
        """`Σ_t grad c_t Π x` over the terms that have a variable, the product without it."""
        factors = self.spec.correlation - 1
        arrays = ["grad", "along_grad", "x", "along_x", "c", "along_c", "types"]
        tables = ["component_of", "variable_ptr", "term_of", "others"]
        return self._kernel(
            "by_x",
            [*arrays, *tables, "out", "num_atoms"],
            [
                *self._atom_and("variable", self.components["x"]),
                "first = tl.load(variable_ptr + variable)",
                "last = tl.load(variable_ptr + variable + 1)",
                f"total = {self.zeros}",
                "for entry in range(first, last):",
                "    term = tl.load(term_of + entry)",
                "    component = tl.load(component_of + term)",
                *indent(self._load("c", "c", "type", "term", "num_types")),
                *indent(self._load("grad", "grad", "atom", "component", "num_atoms")),
                *indent(self._load_variables("others", "entry", factors)),
                *indent(self._add_last(["c", "grad", *(f"x{n}" for n in range(factors))])),
                self._store("out", f"(atom * {self.components['x']} + variable)"),
            ],
        )

    def by_coefficients(self) -> KernelSource:
        """`Σ_atoms grad Π x` of each term and type, in the order of the atoms."""
        factors = self.spec.correlation
        arrays = ["grad", "along_grad", "x", "along_x", "component_of", "variables"]
        return self._kernel(
            "by_coefficients",
            [*arrays, "atom_of", "type_ptr", "out", "num_atoms"],
            [
                "row = tl.program_id(0).to(tl.int64)",
                f"type = row // {self.num_terms}",
                f"term = row % {self.num_terms}",
                "component = tl.load(component_of + term)",
                "first = tl.load(type_ptr + type)",
                "last = tl.load(type_ptr + type + 1)",
                f"total = {self.zeros}",
                "for place in range(first, last):",
                "    atom = tl.load(atom_of + place)",
                *indent(self._load("grad", "grad", "atom", "component", "num_atoms")),
                *indent(self._load_variables("variables", "term", factors)),
                *indent(self._add_last(["grad", *(f"x{n}" for n in range(factors))])),
                self._store("out", "row"),
            ],
        )

    def _kernel(self, name: str, arguments: list[str], body: list[str]) -> KernelSource:
        name = f"symmetric_{name}"
        along = {"along_x", "along_grad"} if self.order > 0 else set[str]()
        along |= {"along_c"} if self.moving else set[str]()
        declared = [each for each in arguments if not each.startswith("along_") or each in along]
        declared += ["num_types"] if "along_c" in declared else []
        # numbers that change from step to step must be no reason to compile anew
        sizes = [each for each in declared if each.startswith("num_")]
        lines = [
            "import triton",
            "import triton.language as tl",
            "",
            "",
            f"@triton.jit(do_not_specialize={sizes})",
            f"def {name}({', '.join(declared)}):",
            f"    channel = tl.program_id(1) * {self.tile} + tl.arange(0, {self.tile})",
            f"    kept = channel < {self.spec.channels}",
            *indent(body),
            "",
        ]
        return KernelSource(name, "\n".join(lines), 1)

    def _atom_and(self, index: str, count: int) -> list[str]:
        return [
            "row = tl.program_id(0).to(tl.int64)",
            f"atom = row // {count}",
            f"{index} = row % {count}",
            "type = tl.load(types + atom)",
        ]

    def _keys(self, array: str) -> list[int]:
        """Of a number read from an array: the point, and the directions along which it changes."""
        moves = array != "c" or self.moving
        return [0, *(1 << n for n in range(self.order if moves else 0))]

    def _load(
        self, name: str, array: str, row: str, column: str, rows: str, inside: str = "kept"
    ) -> Iterator[str]:
        """Variables `<name>_<key>` for each part of a number."""
        width = self.components[array]
        other = "1.0" if inside != "kept" else "0.0"
        for n, key in enumerate(self._keys(array)):
            start, first = (array, row) if key == 0 else (f"along_{array}", f"({n - 1} * {rows} + {row})")
            place = f"{start} + ({first} * {width} + {column}) * {self.spec.channels} + channel"
            yield f"{name}_{key} = tl.load({place}, mask={inside}, other={other if key == 0 else '0.0'})"

    def _load_variables(self, table: str, row: str, factors: int) -> Iterator[str]:
        """ONE, whose number is that of the components, is not read."""
        for n in range(factors):
            yield f"v = tl.load({table} + {row} * {factors} + {n})"
            yield from self._load(
                f"x{n}", "x", "atom", "v", "num_atoms", f"kept & (v < {self.components['x']})"
            )

    def _add_last(self, names: list[str]) -> Iterator[str]:
        """Multiply numbers, and add the last part of their product to `total`."""
        product: Number = {key: f"{names[0]}_{key}" for key in self._keys(names[0].rstrip("0123456789"))}
        for name in names[1:]:
            factor: Number = {key: f"{name}_{key}" for key in self._keys(name.rstrip("0123456789"))}
            product = dual_numbers.product([product, factor], "{} * {}".format, "{} + {}".format)
            for key, text in product.items():
                yield f"p_{name}_{key} = {text}"
            product = {key: f"p_{name}_{key}" for key in product}
        yield f"total += {product.get((1 << self.order) - 1, '0.0')}"

    def _store(self, array: str, row: str) -> str:
        return f"tl.store({array} + {row} * {self.spec.channels} + channel, total, mask=kept)"
