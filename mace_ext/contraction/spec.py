"""What a symmetric contraction computes, as a value: irreps, correlation, and the order of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from mace_ext.contraction.basis import basis
from nequip.o3 import Irrep, Irreps


class Path(NamedTuple):
    """One polynomial of the basis: `number` of those of degree `order` that lead to `irrep_out`."""

    irrep_out: Irrep
    order: int
    number: int


@dataclass(frozen=True)
class SymmetricSpec:
    """Equivariant polynomials of features, channel by channel, up to degree `correlation`.

    All blocks have the same number of channels. Weights of an element are [path, channel]; paths are
    ordered by output block, degree, and place in the basis. Hashable; `str` round-trips through `parse`,
    so that it can be a constant in an exported graph.
    """

    irreps_in: Irreps
    correlation: int
    irreps_out: Irreps

    def __post_init__(self) -> None:
        terms = [*self.irreps_in, *self.irreps_out]
        assert len({mul for mul, _ in terms}) == 1, f"{self} mixes numbers of channels"
        assert len({irrep for _, irrep in self.irreps_out}) == len(self.irreps_out), f"{self} is not merged"
        # What a traced model reads is there from the start: torch.compile cannot follow a cached
        # property of Python 3.11, which takes a lock.
        _ = self.text, self.num_weights

    @staticmethod
    def parse(text: str) -> SymmetricSpec:
        """The inverse of `str`."""
        irreps_in, correlation, irreps_out = text.split("|")
        return SymmetricSpec(Irreps(irreps_in), int(correlation), Irreps(irreps_out))

    def __str__(self) -> str:
        return self.text

    @cached_property
    def text(self) -> str:
        """What `parse` reads."""
        return f"{self.irreps_in}|{self.correlation}|{self.irreps_out}"

    @property
    def channels(self) -> int:
        """Channels of every block."""
        return self.irreps_in.terms[0][0]

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """Every polynomial of the basis, in the order of the weights."""
        return tuple(
            Path(irrep, order, number)
            for _, irrep in self.irreps_out
            for order in range(1, self.correlation + 1)
            for number in range(len(basis(self.irreps_in, irrep, order).coefficients))
        )

    @cached_property
    def num_weights(self) -> int:
        """Weights of one element."""
        return len(self.paths) * self.channels
