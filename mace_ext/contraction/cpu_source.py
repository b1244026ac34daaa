"""C++ for one symmetric contraction: its polynomials written out, channels in vectors. See README.md.

The loops over atoms and channels are in nequip/kernels/csrc/symmetric_kernel.h, which says what the functions
written here compute; numbers are vectors, or dual numbers of vectors for higher derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from mace_ext.contraction.layout import Factor, layout
from mace_ext.contraction.spec import SymmetricSpec

# Coefficients in one function: more, and a compiler's time grows faster than the function does.
COEFFICIENTS_AT_ONCE = 160


def cpu_source(spec: SymmetricSpec, scalar: str, order: int, moving: bool) -> str:
    """The source of one kernel library, with `scalar` "float" or "double".

    Args:
        order: of the derivative whose gradient it computes; with 0 it also computes the value.
        moving: whether weights change along the directions of the derivative.
    """
    polynomials, coefficients = layout(spec)
    parts = [(component, part) for component, whole in enumerate(polynomials) for part in _parts(whole)]
    firsts = [0, *accumulate(len(weights) for weights in coefficients)]
    entries = [entry for weights in coefficients for entry in sorted(weights.items())]
    lines = [
        f"// {spec}",
        f"typedef {scalar} Scalar;",
        f"#define ORDER {order}",
        f"#define MOVING {int(moving)}",
        f"constexpr int CHANNELS = {spec.channels}, DIM_IN = {spec.irreps_in.dim // spec.channels};",
        f"constexpr int DIM_OUT = {spec.irreps_out.dim // spec.channels}, NUM_PATHS = {len(spec.paths)};",
        f"constexpr int NUM_COEFFICIENTS = {len(coefficients)};",
        f"const int FIRST[] = {{{', '.join(map(str, firsts))}}};",
        f"const int PATH[] = {{{', '.join(str(path) for path, _ in entries)}}};",
        f"const Scalar VALUE[] = {{{', '.join(f'Scalar({value!r})' for _, value in entries)}}};",
        '#include "symmetric_kernel.h"',
        "namespace {",
        *(_value(parts) if order == 0 else []),
        *_gradient(parts),
        "}  // namespace",
        "",
    ]
    return "\n".join(lines)


def _parts(whole: Factor) -> Iterator[Factor]:
    """The polynomial as a sum of such that are not too long."""
    coefficient, some, count = whole.coefficient, [], 0
    for variable, factor in whole.parts:
        size = _count(factor)
        if some and count + size > COEFFICIENTS_AT_ONCE:
            yield Factor(coefficient, tuple(some))
            coefficient, some, count = None, [], 0
        some.append((variable, factor))
        count += size
    if some or coefficient is not None:
        yield Factor(coefficient, tuple(some))


def _count(factor: Factor) -> int:
    return (factor.coefficient is not None) + sum(_count(inner) for _, inner in factor.parts)


def _variables(factor: Factor) -> set[int]:
    inner = (_variables(inner) | {variable} for variable, inner in factor.parts)
    return set().union(*inner)


def _value(parts: list[tuple[int, Factor]]) -> list[str]:
    arguments = "const T* A, const T* c, T* out"
    written: list[str] = []
    for number, (component, factor) in enumerate(parts):
        lines = [f"const T a{i} = A[{i}];" for i in sorted(_variables(factor))]
        lines += ["T t = {};", *_sum(factor, "t"), f"out[{component}] += t;"]
        written.append(_function(f"void value_{number}({arguments})", lines, "class T"))
    calls = [f"value_{number}(A, c, out);" for number in range(len(parts))]
    return [*written, _function(f"void value({arguments})", calls, "class T")]


def _sum(factor: Factor, total: str) -> Iterator[str]:
    """Add a factor to the number `total`."""
    if factor.coefficient is not None:
        yield f"{total} += c[{factor.coefficient}];"
    for variable, inner in factor.parts:
        if inner.is_number:
            yield f"{total} += a{variable} * c[{inner.coefficient}];"
        else:
            name = f"{total}_{variable}"
            yield f"T {name} = {{}};"
            yield from _sum(inner, name)
            yield f"{total} += a{variable} * {name};"


def _gradient(parts: list[tuple[int, Factor]]) -> list[str]:
    """What comes to a factor from outside, `d`, goes on to its parts; the parts make its value `t`."""
    arguments = (
        "const Variable* A, const Coefficient* c, const Variable* grad, Plain* dgrad, Plain* dA, Plain* dc"
    )
    written: list[str] = []
    for number, (component, factor) in enumerate(parts):
        variables = sorted(_variables(factor))
        lines = [f"const Variable a{i} = A[{i}];" for i in variables]
        lines += [f"Plain d{i} = {{}};" for i in variables]
        lines += [f"const Variable d = grad[{component}];", "Variable t = {};"]
        lines += [*_gradients(factor, "d", "t"), f"dgrad[{component}] += last(t);"]
        lines += [f"dA[{i}] += d{i};" for i in variables]
        written.append(_function(f"void gradient_{number}({arguments})", lines, "bool WITH_COEFFICIENTS"))
    passed = ", ".join(argument.split()[-1] for argument in arguments.split(", "))
    calls = [f"gradient_{number}<WITH_COEFFICIENTS>({passed});" for number in range(len(parts))]
    return [*written, _function(f"void gradient({arguments})", calls, "bool WITH_COEFFICIENTS")]


def _gradients(factor: Factor, outer: str, total: str) -> Iterator[str]:
    with_coefficients = "if constexpr (WITH_COEFFICIENTS)"
    if factor.coefficient is not None:
        yield f"add_to({total}, c[{factor.coefficient}]);"
        yield f"{with_coefficients} dc[{factor.coefficient}] += last({outer});"
    for variable, inner in factor.parts:
        if inner.is_number:
            c = f"c[{inner.coefficient}]"
            yield f"add_product({total}, a{variable}, {c});"
            yield f"add_last(d{variable}, {outer}, {c});"
            yield f"{with_coefficients} add_last(d{c}, {outer}, a{variable});"
        else:
            name = f"_{variable}"
            yield f"Variable {outer}{name} = {{}}, {total}{name} = {{}};"
            yield f"add_product({outer}{name}, {outer}, a{variable});"
            yield from _gradients(inner, outer + name, total + name)
            yield f"add_product({total}, a{variable}, {total}{name});"
            yield f"add_last(d{variable}, {outer}, {total}{name});"


def _function(head: str, lines: list[str], template: str) -> str:
    return "\n  ".join([f"template <{template}>\n__attribute__((noinline)) {head} {{", *lines]) + "\n}"
