"""What a convolution computes, as a value: irreps, paths, and the order of its weights and outputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from nequip.o3 import Irrep, Irreps


class Path(NamedTuple):
    """Input block x harmonic block -> one irrep, with as many channels as the input block has."""

    block_in: int
    block_sh: int
    irrep_out: Irrep


@dataclass(frozen=True)
class TensorProductSpec:
    """A channel-wise ("uvu") tensor product of features with spherical harmonics.

    Path p multiplies input block i and harmonic block j onto irrep k with coefficients
    `√(2 l_k + 1) w3j(l_i, l_j, l_k)`. Weights are [path, channel] in the order of `paths`; outputs
    are sorted stably by irrep (0o < 0e < 1o < ...) and equal irreps are merged along channels.
    Hashable; `str` round-trips through `parse`, so that it can be a constant in an exported graph.
    """

    irreps_in: Irreps
    irreps_sh: Irreps
    paths: tuple[Path, ...]

    def __post_init__(self) -> None:
        # What convolve reads is there from the start: torch.compile cannot follow a cached property of
        # Python 3.11, which takes a lock.
        _ = self.text, self.num_weights

    @staticmethod
    def full(irreps_in: Irreps, irreps_sh: Irreps, keep: Collection[Irrep] | Irreps) -> TensorProductSpec:
        """Every path whose output is in `keep`, ordered by input block, harmonic block, l_out."""
        paths = [
            Path(i, j, irrep)
            for i, (_, left) in enumerate(irreps_in)
            for j, (_, right) in enumerate(irreps_sh)
            for irrep in left.product(right)
            if irrep in keep
        ]
        return TensorProductSpec(irreps_in, irreps_sh, tuple(paths))

    @staticmethod
    def parse(text: str) -> TensorProductSpec:
        """The inverse of `str`."""
        irreps_in, irreps_sh, paths = text.split("|")
        parsed: list[Path] = []
        for item in filter(None, paths.split(";")):
            i, j, irrep = item.split(",")
            parsed.append(Path(int(i), int(j), Irreps(irrep).terms[0][1]))
        return TensorProductSpec(Irreps(irreps_in), Irreps(irreps_sh), tuple(parsed))

    def __str__(self) -> str:
        return self.text

    @cached_property
    def text(self) -> str:
        """What `parse` reads."""
        paths = ";".join(f"{path.block_in},{path.block_sh},{path.irrep_out}" for path in self.paths)
        return f"{self.irreps_in}|{self.irreps_sh}|{paths}"

    def channels(self, path: Path) -> int:
        """Channels of a path: those of its input block."""
        return self.irreps_in.terms[path.block_in][0]

    @cached_property
    def num_weights(self) -> int:
        """Weights per edge: one for each path and channel."""
        return sum(self.channels(path) for path in self.paths)

    @cached_property
    def output_order(self) -> tuple[int, ...]:
        """Paths in the order of their outputs: stable by irrep."""
        return tuple(sorted(range(len(self.paths)), key=lambda p: self.paths[p].irrep_out))

    @cached_property
    def irreps_out(self) -> Irreps:
        """Irreps of the output, equal ones merged."""
        terms = [(self.channels(self.paths[p]), self.paths[p].irrep_out) for p in self.output_order]
        return Irreps(terms).merged()
