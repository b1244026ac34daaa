"""Both sums in plain PyTorch: what every other backend must agree with. See README.md."""

from __future__ import annotations

from functools import cache
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray

from allegro.contraction.spec import ContractionSpec
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product.reference import chunk
from nequip.o3 import Irreps, join, split, wigner_3j_array
from nequip.typing import Float, Tensor


def weighted_harmonics(
    sh: Float[Tensor, "edge component"], weight: Float[Tensor, "edge irrep_channel"], irreps: Irreps
) -> Float[Tensor, "edge component_channel"]:
    """Y ⊗ w of every edge: the harmonics of `irreps`, each channel with a weight of its own."""
    dims, channels = [irrep.dim for _, irrep in irreps], [mul for mul, _ in irreps]
    parts = zip(split(sh, dims), split(weight, channels), strict=True)
    return join([(part.unsqueeze(2) * scale.unsqueeze(1)).flatten(1) for part, scale in parts])


def environment(
    sh: Float[Tensor, "edge component"],
    weight: Float[Tensor, "edge irrep_channel"],
    edges: Edges,
    irreps: Irreps,
) -> Float[Tensor, "row component_channel"]:
    """Sum weighted harmonics onto centers, some edges at a time."""
    summed = sh.new_zeros(edges.row_ptr.shape[0] - 1, irreps.dim)
    chunks = (array.split(chunk(sh.device)) for array in (edges.center, sh, weight))
    for center, harmonics, weights in zip(*chunks, strict=True):
        summed.index_add_(0, center, weighted_harmonics(harmonics, weights, irreps))
    return summed


def contract(
    tensors: Float[Tensor, "edge component_channel"],
    env: Float[Tensor, "row component_channel"],
    weight: Float[Tensor, "path channel"],
    edges: Edges,
    spec: ContractionSpec,
) -> Float[Tensor, "edge component_channel"]:
    """Gather the environment, then multiply along the paths, some edges at a time.

    One outer product over components for each pair of blocks, one matrix of coefficients for all its
    paths, and the weights at the end. Splits, never slices: the gradient of a slice is a zero-padded
    copy of the whole.
    """
    couplings = {
        pair: torch.as_tensor(_coupling(spec, pair), dtype=tensors.dtype, device=tensors.device)
        for pair in sorted({(path.block_in, path.block_env) for path in spec.paths})
    }
    gathered = env.index_select(0, edges.center)
    size = chunk(tensors.device)
    chunks = zip(tensors.split(size), gathered.split(size), strict=True)
    return join([_products(left, right, weight, couplings, spec) for left, right in chunks], dim=0)


def _products(
    tensors: Float[Tensor, "edge component_channel"],
    env: Float[Tensor, "edge component_channel"],
    weight: Float[Tensor, "path channel"],
    couplings: dict[tuple[int, int], Tensor],
    spec: ContractionSpec,
) -> Float[Tensor, "edge component_channel"]:
    lefts, rights = _blocks(tensors, spec.irreps_in), _blocks(env, spec.irreps_env)
    weights = weight.unbind(0)
    terms: list[list[Tensor]] = [[] for _ in spec.irreps_out]
    for pair, coupling in couplings.items():
        outer = (lefts[pair[0]].unsqueeze(2) * rights[pair[1]].unsqueeze(1)).flatten(1, 2)
        product = torch.bmm(coupling.expand(outer.shape[0], -1, -1), outer)
        paths = _paths_of(spec, pair)
        dims = [spec.irreps_out.terms[spec.paths[p].block_out][1].dim for p in paths]
        for p, part in zip(paths, split(product, dims), strict=True):
            terms[spec.paths[p].block_out].append(part * weights[p])
    none = [tensors.new_zeros(tensors.shape[0], mul * irrep.dim) for mul, irrep in spec.irreps_out]
    pairs = zip(terms, none, strict=True)  # no path need lead to a block
    return join([torch.stack(block).sum(0).flatten(1) if block else zeros for block, zeros in pairs])


def _blocks(x: Float[Tensor, "edge component_channel"], irreps: Irreps) -> list[Tensor]:
    """Each block as [edge, component, channel]."""
    parts = split(x, [mul * irrep.dim for mul, irrep in irreps])
    return [part.unflatten(1, (irrep.dim, mul)) for part, (mul, irrep) in zip(parts, irreps, strict=True)]


def _paths_of(spec: ContractionSpec, pair: tuple[int, int]) -> list[int]:
    """Paths of one input and one environment block."""
    return [p for p, path in enumerate(spec.paths) if (path.block_in, path.block_env) == pair]


@cache
def _coupling(spec: ContractionSpec, pair: tuple[int, int]) -> NDArray[np.float64]:
    """`√(2 l_k + 1) w3j` of every path of one pair of blocks as [k of all paths, (i, j)]."""
    left, right = spec.irreps_in.terms[pair[0]][1], spec.irreps_env.terms[pair[1]][1]
    rows: list[NDArray[np.float64]] = []
    for p in _paths_of(spec, pair):
        out = spec.irreps_out.terms[spec.paths[p].block_out][1]
        w3j = wigner_3j_array(left.l, right.l, out.l)
        rows.append(sqrt(out.dim) * w3j.reshape(-1, out.dim).T)
    return np.concatenate(rows)
