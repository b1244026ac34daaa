"""What a contraction computes, as a value: irreps and paths, in the order of their weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from nequip.o3 import Irreps


class Path(NamedTuple):
    """Block of the edge's features x block of the environment -> block of the output."""

    block_in: int
    block_env: int
    block_out: int


@dataclass(frozen=True)
class ContractionSpec:
    """A channel-wise ("uuu") product of tensors on edges with the environment of their center.

    All blocks have the same number of channels. There is a path wherever the product of an input
    and an environment irrep holds an output irrep, with coefficients `√(2 l_k + 1) w3j(l_i, l_j, l_k)`;
    paths are ordered by output, input, environment block, and so are the weights [path, channel].
    Hashable; `str` round-trips through `parse`, so that it can be a constant in an exported graph.
    """

    irreps_in: Irreps
    irreps_env: Irreps
    irreps_out: Irreps

    def __post_init__(self) -> None:
        terms = [*self.irreps_in, *self.irreps_env, *self.irreps_out]
        assert len({mul for mul, _ in terms}) == 1, f"{self} mixes numbers of channels"
        # What a traced model reads is there from the start: torch.compile cannot follow a cached
        # property of Python 3.11, which takes a lock.
        _ = self.text, self.paths

    @staticmethod
    def parse(text: str) -> ContractionSpec:
        """The inverse of `str`."""
        return ContractionSpec(*(Irreps(irreps) for irreps in text.split("|")))

    def __str__(self) -> str:
        return self.text

    @cached_property
    def text(self) -> str:
        """What `parse` reads."""
        return f"{self.irreps_in}|{self.irreps_env}|{self.irreps_out}"

    @property
    def channels(self) -> int:
        """Channels of every block."""
        return self.irreps_in.terms[0][0]

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """Every path that symmetry allows."""
        return tuple(
            Path(i, j, k)
            for k, (_, out) in enumerate(self.irreps_out)
            for i, (_, left) in enumerate(self.irreps_in)
            for j, (_, right) in enumerate(self.irreps_env)
            if out in left.product(right)
        )
