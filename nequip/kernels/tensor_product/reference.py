"""The convolution in plain PyTorch: what every other backend must agree with. See README.md."""

from __future__ import annotations

from functools import cache
from math import sqrt

import torch

from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.o3 import wigner_3j
from nequip.typing import Float, Tensor


def convolve(
    x: Float[Tensor, "atom component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    spec: TensorProductSpec,
) -> Float[Tensor, "atom component_out"]:
    """Gather, multiply along the paths, sum onto centers.

    One small matrix per edge and input block, `M_ki = Σ_j C_ijk Y_j` over the components k of all
    its paths, turns the block's components in one batched product; weights and the sum follow.
    Splits, never slices: the gradient of a slice is a zero-padded copy of the whole.
    """
    blocks = spec.irreps_in.blocks()
    gathered = x.index_select(0, edges.neighbor).split([block.dim for block in blocks], dim=1)
    weights = iter(weight.split([spec.channels(path) for path in spec.paths], dim=1))
    messages: list[Tensor] = []
    for index, block in enumerate(blocks):
        dims = [path.irrep_out.dim for path in spec.paths if path.block_in == index]
        if not dims:
            continue
        matrices = (sh @ _coupling(spec, index).to(sh)).unflatten(1, (-1, block.irrep.dim))
        product = torch.bmm(matrices, gathered[index].unflatten(1, (block.irrep.dim, block.mul)))
        parts = product.split(dims, dim=1)
        messages += [(part * next(weights).unsqueeze(1)).flatten(1) for part in parts]
    message = torch.cat(messages, dim=1)
    summed = message.new_zeros(x.shape[0], message.shape[1]).index_add(0, edges.center, message)
    return _merge(summed, spec)


def _merge(
    summed: Float[Tensor, "atom path_component_channel"], spec: TensorProductSpec
) -> Float[Tensor, "atom component_out"]:
    """From the order of paths to that of the output: sorted by irrep, equal ones side by side."""
    widths = [spec.channels(path) * path.irrep_out.dim for path in spec.paths]
    parts = summed.split(widths, dim=1)
    merged: list[Tensor] = []
    for _, irrep in spec.irreps_out:
        members = [parts[p] for p in spec.output_order if spec.paths[p].irrep_out == irrep]
        merged.append(torch.cat([part.unflatten(1, (irrep.dim, -1)) for part in members], dim=2).flatten(1))
    return torch.cat(merged, dim=1)


@cache
def _coupling(spec: TensorProductSpec, block_in: int) -> Float[Tensor, "component_sh k_times_i"]:
    """`√(2 l_k + 1) w3j` of every path of one input block as [sh component, (k of all paths) x i]."""
    sh_blocks = spec.irreps_sh.blocks()
    l_in = spec.irreps_in.terms[block_in][1].l
    columns: list[Tensor] = []
    for path in spec.paths:
        if path.block_in != block_in:
            continue
        sh_block = sh_blocks[path.block_sh]
        coupling = torch.zeros(spec.irreps_sh.dim, path.irrep_out.dim, 2 * l_in + 1, dtype=torch.float64)
        w3j = wigner_3j(l_in, sh_block.irrep.l, path.irrep_out.l)
        coupling[sh_block.slice] = sqrt(path.irrep_out.dim) * w3j.permute(1, 2, 0)
        columns.append(coupling.flatten(1))
    return torch.cat(columns, dim=1)
