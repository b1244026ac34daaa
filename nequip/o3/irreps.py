"""Irreducible representations of O(3) and sums of them, as values: parse, print, sort, merge."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nequip.o3.columns import split
from nequip.typing import Float, Tensor

_TERM = re.compile(r"^(?:(\d+)x)?(\d+)([eo])$")


class Irrep(NamedTuple):
    """One irrep: degree l and parity p (+1 even, -1 odd). Sorts as 0o < 0e < 1o < 1e < ..."""

    l: int  # noqa: E741 - the field's own name
    p: int

    @property
    def dim(self) -> int:
        """2l + 1."""
        return 2 * self.l + 1

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"

    def product(self, other: Irrep) -> list[Irrep]:
        """The irreps in the tensor product with `other`, by ascending l."""
        return [
            Irrep(degree, self.p * other.p) for degree in range(abs(self.l - other.l), self.l + other.l + 1)
        ]


class Block(NamedTuple):
    """`mul` channels of one irrep, and where they lie in a flat feature vector."""

    mul: int
    irrep: Irrep
    offset: int

    @property
    def dim(self) -> int:
        return self.mul * self.irrep.dim

    @property
    def slice(self) -> slice:
        return slice(self.offset, self.offset + self.dim)


class Irreps:
    """An ordered sum of irreps with multiplicities, `32x0e+16x1o`.

    A feature of these irreps is one flat vector; within a block it is [component, channel], channel
    innermost. Immutable, hashable; `str` round-trips.
    """

    __slots__ = ("terms",)

    def __init__(self, terms: Iterable[tuple[int, Irrep]] | str):
        if isinstance(terms, str):
            terms = [_parse(term.strip()) for term in terms.split("+") if term.strip()]
        self.terms = tuple((int(mul), Irrep(*irrep)) for mul, irrep in terms)

    @property
    def dim(self) -> int:
        return sum(mul * irrep.dim for mul, irrep in self.terms)

    @property
    def l_max(self) -> int:
        return max(irrep.l for _, irrep in self.terms)

    def blocks(self) -> list[Block]:
        """The terms with their offsets in the flat vector."""
        blocks: list[Block] = []
        offset = 0
        for mul, irrep in self.terms:
            blocks.append(Block(mul, irrep, offset))
            offset += mul * irrep.dim
        return blocks

    def split(self, x: Float[Tensor, "row component"]) -> dict[Irrep, Float[Tensor, "row block"]]:
        """Features as one tensor for each irrep; irreps must be merged."""
        assert len({irrep for _, irrep in self.terms}) == len(self.terms), f"{self} is not merged"
        parts = split(x, [mul * irrep.dim for mul, irrep in self.terms])
        return {irrep: part for (_, irrep), part in zip(self.terms, parts, strict=True)}

    def mul(self, irrep: Irrep) -> int:
        """Channels of `irrep` in total."""
        return sum(mul for mul, other in self.terms if other == irrep)

    def merged(self) -> Irreps:
        """Neighboring terms of equal irrep as one."""
        merged: list[tuple[int, Irrep]] = []
        for mul, irrep in self.terms:
            if merged and merged[-1][1] == irrep:
                merged[-1] = (merged[-1][0] + mul, irrep)
            else:
                merged.append((mul, irrep))
        return Irreps(merged)

    def __contains__(self, irrep: object) -> bool:
        return any(other == irrep for _, other in self.terms)

    def __iter__(self) -> Iterator[tuple[int, Irrep]]:
        return iter(self.terms)

    def __len__(self) -> int:
        return len(self.terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Irreps) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(self.terms)

    def __str__(self) -> str:
        return "+".join(f"{mul}x{irrep}" for mul, irrep in self.terms)

    def __repr__(self) -> str:
        return f"Irreps({str(self)!r})"


def _parse(term: str) -> tuple[int, Irrep]:
    match = _TERM.match(term)
    if match is None:
        raise ValueError(f"{term!r} is not an irrep such as '16x1o'")
    mul, degree, parity = match.groups()
    return int(mul or 1), Irrep(int(degree), 1 if parity == "e" else -1)
