"""The environment as a convolution of ones, by the paths `1 ⊗ Y_l -> Y_l`, on any of its backends.

Every row is its own neighbor, so that sums over the edges of a row and over those to a source are the same,
and as many programs take part in one as in the other.
"""

from __future__ import annotations

from functools import cache

import torch

from nequip.kernels.backend import Backend
from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import Path, TensorProductSpec, convolve
from nequip.o3 import Irrep, Irreps
from nequip.typing import Float, Tensor


def environment(
    sh: Float[Tensor, "edge component"],
    weight: Float[Tensor, "edge irrep_channel"],
    edges: Edges,
    irreps: Irreps,
    backend: Backend,
) -> Float[Tensor, "row component_channel"]:
    """The sum over the edges of each row.

    Raises:
        KernelError: as nequip.kernels.tensor_product.convolve.
    """
    spec = environment_spec(irreps)
    ones = sh.new_ones(edges.row_ptr.shape[0] - 1, spec.irreps_in.dim)
    each = torch.arange(sh.shape[0], device=sh.device)
    edges = edges._replace(neighbor=edges.center, transpose=each)
    return convolve(ones, sh, weight, edges, spec=spec, backend=backend)


def weighted_harmonics(
    sh: Float[Tensor, "edge component"],
    weight: Float[Tensor, "edge irrep_channel"],
    irreps: Irreps,
    backend: Backend,
) -> Float[Tensor, "edge component_channel"]:
    """The same with a row for each edge.

    Raises:
        KernelError: as nequip.kernels.tensor_product.convolve.
    """
    each = torch.arange(sh.shape[0], device=sh.device)
    row_ptr = torch.arange(sh.shape[0] + 1, device=sh.device)
    return environment(sh, weight, Edges(each, each, row_ptr, each), irreps, backend)


@cache
def environment_spec(irreps: Irreps) -> TensorProductSpec:
    """`1 ⊗ Y_l -> Y_l` for every irrep, of which the coefficients are 1."""
    harmonics = Irreps((1, irrep) for _, irrep in irreps)
    paths = tuple(Path(0, block, irrep) for block, (_, irrep) in enumerate(irreps))
    return TensorProductSpec(Irreps([(irreps.terms[0][0], Irrep(0, 1))]), harmonics, paths)
