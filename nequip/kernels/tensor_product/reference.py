"""The convolution in plain PyTorch: what every other backend must agree with. See README.md."""

from __future__ import annotations

from functools import cache
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray

from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.o3 import join, split, wigner_3j_array
from nequip.typing import Float, Tensor

# Edges taken at a time on a CPU: the arrays between product and sum then stay in cache and below the size
# (32 MB) from which the allocator hands memory back to the system. Measured 4 times faster than one piece.
CHUNK = 512

# On a GPU, which has the more to do at once the better, but whose memory ends.
GPU_CHUNK = 65536


def chunk(device: torch.device) -> int:
    """Edges that are taken at a time."""
    return CHUNK if device.type == "cpu" else GPU_CHUNK


def convolve(
    x: Float[Tensor, "atom component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    edges: Edges,
    spec: TensorProductSpec,
) -> Float[Tensor, "atom component_out"]:
    """Gather, multiply along the paths, sum onto centers, some edges at a time."""
    couplings = [
        torch.as_tensor(_coupling(spec, index), dtype=sh.dtype, device=sh.device)
        for index in range(len(spec.irreps_in))
    ]
    width = sum(spec.channels(path) * path.irrep_out.dim for path in spec.paths)
    summed = x.new_zeros(edges.row_ptr.shape[0] - 1, width)
    pieces = (edges.center, edges.neighbor, sh, weight)
    for center, neighbor, harmonics, weights in zip(*(p.split(chunk(x.device)) for p in pieces), strict=True):
        message = _messages(x.index_select(0, neighbor), harmonics, weights, couplings, spec)
        summed.index_add_(0, center, message)
    return _merge(summed, spec)


def _messages(
    gathered: Float[Tensor, "edge component_in"],
    sh: Float[Tensor, "edge component_sh"],
    weight: Float[Tensor, "edge path_channel"],
    couplings: list[Tensor],
    spec: TensorProductSpec,
) -> Float[Tensor, "edge path_component_channel"]:
    """The summand of every edge, in the order of paths.

    One small matrix per edge and input block, `M_ki = Σ_j C_ijk Y_j` over the components k of all
    its paths, turns the block's components in one batched product; the weights follow. Splits, never
    slices: the gradient of a slice is a zero-padded copy of the whole.
    """
    features = spec.irreps_in.split(gathered)
    weights = iter(split(weight, [spec.channels(path) for path in spec.paths]))
    messages: list[Tensor] = []
    for index, (mul, irrep) in enumerate(spec.irreps_in):
        dims = [path.irrep_out.dim for path in spec.paths if path.block_in == index]
        if not dims:
            continue
        matrices = (sh @ couplings[index]).unflatten(1, (sum(dims), irrep.dim))
        product = torch.bmm(matrices, features[irrep].unflatten(1, (irrep.dim, mul)))
        messages += [(part * next(weights).unsqueeze(1)).flatten(1) for part in split(product, dims)]
    return join(messages)


def _merge(
    summed: Float[Tensor, "atom path_component_channel"], spec: TensorProductSpec
) -> Float[Tensor, "atom component_out"]:
    """From the order of paths to that of the output: sorted by irrep, equal ones side by side."""
    widths = [spec.channels(path) * path.irrep_out.dim for path in spec.paths]
    parts = split(summed, widths)
    merged: list[Tensor] = []
    for _, irrep in spec.irreps_out:
        members = [parts[p] for p in spec.output_order if spec.paths[p].irrep_out == irrep]
        merged.append(join([part.unflatten(1, (irrep.dim, -1)) for part in members], dim=2).flatten(1))
    return join(merged)


@cache
def _coupling(spec: TensorProductSpec, block_in: int) -> NDArray[np.float64]:
    """`√(2 l_k + 1) w3j` of every path of one input block as [sh component, (k of all paths) x i]."""
    sh_blocks = spec.irreps_sh.blocks()
    dim_in = spec.irreps_in.terms[block_in][1].dim
    columns = [np.zeros((spec.irreps_sh.dim, 0))]
    for path in spec.paths:
        if path.block_in != block_in:
            continue
        sh_block = sh_blocks[path.block_sh]
        coupling = np.zeros((spec.irreps_sh.dim, path.irrep_out.dim, dim_in))
        w3j = wigner_3j_array((dim_in - 1) // 2, sh_block.irrep.l, path.irrep_out.l)
        coupling[sh_block.slice] = sqrt(path.irrep_out.dim) * w3j.transpose(1, 2, 0)
        columns.append(coupling.reshape(spec.irreps_sh.dim, -1))
    return np.concatenate(columns, axis=1)
