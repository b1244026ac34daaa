"""What a linear map between irreps computes, as a value: which matrices there are, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from nequip.o3 import Irrep, Irreps


class Matrix(NamedTuple):
    """One irrep that both sides have: channels and first columns."""

    irrep: Irrep
    fan_in: int
    fan_out: int
    column_in: int
    column_out: int
    column_weight: int


@dataclass(frozen=True)
class LinearSpec:
    """A map from merged irreps to merged irreps; matrices [fan_in, fan_out] in the order of the input."""

    irreps_in: Irreps
    irreps_out: Irreps

    def __post_init__(self) -> None:
        # computed now, since graph compilers cannot look through the lock of a cached_property
        _ = (self.text, self.num_weights)

    @cached_property
    def matrices(self) -> tuple[Matrix, ...]:
        """Every irrep that both sides have."""
        outputs = {block.irrep: block for block in self.irreps_out.blocks()}
        for irreps in (self.irreps_in, self.irreps_out):
            assert len({irrep for _, irrep in irreps}) == len(irreps), f"{irreps} is not merged"
        matrices: list[Matrix] = []
        column = 0
        for block in self.irreps_in.blocks():
            if block.irrep in outputs:
                out = outputs[block.irrep]
                matrices.append(Matrix(block.irrep, block.mul, out.mul, block.offset, out.offset, column))
                column += block.mul * out.mul
        return tuple(matrices)

    @cached_property
    def num_weights(self) -> int:
        """Weights of all matrices."""
        return sum(matrix.fan_in * matrix.fan_out for matrix in self.matrices)

    @cached_property
    def text(self) -> str:
        """For the operator: columns in and out and of weights, then six numbers for each matrix."""
        head = (self.irreps_in.dim, self.irreps_out.dim, self.num_weights)
        rows = ((m.irrep.dim, *m[1:]) for m in self.matrices)
        return ";".join(",".join(map(str, row)) for row in (head, *rows))
