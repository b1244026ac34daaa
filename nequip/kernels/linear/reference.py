"""Linear maps in plain PyTorch, irrep by irrep."""

from __future__ import annotations

import torch

from nequip.kernels.linear.spec import LinearSpec, Matrix
from nequip.o3 import join, split
from nequip.typing import Float, Int, Tensor

# Up to here one product over all types, zeros in the place of every other type, is faster than a
# matrix gathered for each atom: 30 times for 3 types and 2000 atoms.
MANY_TYPES = 16


def map_irreps(
    x: Float[Tensor, "atom component_in"],
    weight: Float[Tensor, "type weight"],
    types: Int[Tensor, " atom"] | None,
    spec: LinearSpec,
) -> Float[Tensor, "atom component_out"]:
    """See nequip.kernels.linear.map_irreps."""
    blocks = spec.irreps_in.split(x)
    parts = split(weight, [matrix.fan_in * matrix.fan_out for matrix in spec.matrices])
    mapped: dict[object, Tensor] = {}
    for matrix, part in zip(spec.matrices, parts, strict=True):
        scaled = part.view(-1, matrix.fan_in, matrix.fan_out) * matrix.fan_in**-0.5
        rows = _multiply(blocks[matrix.irrep], scaled, types, matrix)
        mapped[matrix.irrep] = rows.reshape(x.shape[0], matrix.irrep.dim * matrix.fan_out)
    zeros = {irrep: x.new_zeros(x.shape[0], mul * irrep.dim) for mul, irrep in spec.irreps_out}
    return join([mapped.get(irrep, zeros[irrep]) for _, irrep in spec.irreps_out])


def _multiply(
    block: Float[Tensor, "atom component"],
    weight: Float[Tensor, "type fan_in fan_out"],
    types: Int[Tensor, " atom"] | None,
    matrix: Matrix,
) -> Float[Tensor, "row fan_out"]:
    if types is None:
        return block.reshape(-1, matrix.fan_in) @ weight[0]
    features = block.unflatten(1, (matrix.irrep.dim, matrix.fan_in))
    if len(weight) > MANY_TYPES:
        return torch.bmm(features, weight.index_select(0, types))
    chosen = types.unsqueeze(1) == torch.arange(len(weight), device=types.device)
    placed = features.unsqueeze(2) * chosen.to(block.dtype)[:, None, :, None]
    return placed.flatten(2) @ weight.flatten(0, 1)
