"""Where the paths of a convolution lie in its arrays, and their coefficients: what source is made from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np

from nequip.kernels.tensor_product.spec import Path, TensorProductSpec
from nequip.o3 import wigner_3j_array

Column = dict[int, list[tuple[int, float]]]  # i -> [(j, C_ijk)] of one output component


@dataclass(frozen=True)
class PathLayout:
    """Where a path reads and writes, and its nonzero coefficients."""

    path: Path
    dim_in: int  # components of its input
    weight: int  # first column of its weights
    harmonic: int  # first component of its harmonics
    out: int  # column of its first component and channel
    stride: int  # columns from one component of the output to the next
    entries: tuple[tuple[int, int, int, float], ...]  # (i, j, k, C_ijk)

    @cached_property
    def harmonics(self) -> list[int]:
        """Components of the harmonic that occur."""
        return sorted({j for _, j, _, _ in self.entries})

    @cached_property
    def by_output(self) -> dict[int, Column]:
        """k -> i -> [(j, C_ijk)]."""
        table: dict[int, Column] = {}
        for i, j, k, value in self.entries:
            table.setdefault(k, {}).setdefault(i, []).append((j, value))
        return table


def path_layouts(spec: TensorProductSpec) -> list[PathLayout]:
    """Every path with its places in the arrays."""
    harmonics = spec.irreps_sh.blocks()
    outputs = {block.irrep: block for block in spec.irreps_out.blocks()}
    first_channel: dict[int, int] = {}
    used = dict.fromkeys(outputs, 0)
    for index in spec.output_order:
        path = spec.paths[index]
        first_channel[index] = used[path.irrep_out]
        used[path.irrep_out] += spec.channels(path)
    layouts: list[PathLayout] = []
    weight = 0
    for index, path in enumerate(spec.paths):
        block, harmonic = outputs[path.irrep_out], harmonics[path.block_sh]
        left = spec.irreps_in.terms[path.block_in][1]
        coupling = sqrt(path.irrep_out.dim) * wigner_3j_array(left.l, harmonic.irrep.l, path.irrep_out.l)
        entries = tuple(
            (int(i), int(j), int(k), float(coupling[i, j, k])) for i, j, k in np.argwhere(coupling)
        )
        out = block.offset + first_channel[index]
        layouts.append(PathLayout(path, left.dim, weight, harmonic.offset, out, block.mul, entries))
        weight += spec.channels(path)
    return layouts
