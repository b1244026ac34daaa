"""MACE's symmetric contraction: equivariant polynomials of features, with weights for each element."""

from __future__ import annotations

import torch

from mace_ext.contraction import compiled, cpu, reference
from mace_ext.contraction.spec import Path, SymmetricSpec
from nequip.errors import KernelError
from nequip.kernels.backend import Backend
from nequip.kernels.dispatch import chosen_backend
from nequip.typing import Float, Int, Tensor

__all__ = ["Backend", "Path", "SymmetricSpec", "contract_symmetric"]


def contract_symmetric(
    x: Float[Tensor, "atom component_channel"],
    weight: Float[Tensor, "type path_channel"],
    types: Int[Tensor, " atom"],
    *,
    spec: SymmetricSpec,
    backend: Backend = "auto",
) -> Float[Tensor, "atom component_out_channel"]:
    """`B[n, M, c] = Σ_p W[z_n, p, c] P_p,M(A[n, :, c])` over all polynomials p up to degree ν.

    Linear in `weight`; differentiable to any order. The maths is in README.md.

    Args:
        x: features A of `spec.irreps_in`, each block [component, channel].
        weight: [path, channel] in the order of `spec.paths`, a row for each type.
        types: of each atom.
        backend: "auto" takes the fastest that runs on the device.

    Raises:
        KernelError: for a backend that cannot run here, and for arrays that do not fit `spec`.
    """
    _check(x, weight, types, spec)
    chosen = chosen_backend(backend, x.device.type)
    if chosen == "cpu":
        return cpu.contract_symmetric(x, weight, types, spec)
    if chosen == "triton":
        from mace_ext.contraction import triton_operators  # an import that not every machine can do

        return triton_operators.contract_symmetric(x, weight, types, spec)
    if chosen == "compiled":
        return compiled.contract_symmetric(x, weight, types, spec)
    return reference.contract_symmetric(x, weight, types, spec)


def _check(x: Tensor, weight: Tensor, types: Tensor, spec: SymmetricSpec) -> None:
    if spec.num_weights == 0:
        raise KernelError(f"contract_symmetric: {spec} has no paths: ask for an irrep that products lead to.")
    shapes = (x.shape[1:], weight.shape[1:])
    if shapes != ((spec.irreps_in.dim,), (spec.num_weights,)):
        raise KernelError(
            f"contract_symmetric: x is {list(x.shape)} and weight is {list(weight.shape)}, not "
            f"[atom, {spec.irreps_in.dim}] and [type, {spec.num_weights}], for {spec}."
        )
    if weight.dtype != x.dtype or weight.device != x.device:
        raise KernelError(
            f"contract_symmetric: weight is {weight.dtype} on {weight.device} where x is {x.dtype} on "
            f"{x.device}."
        )
    if types.shape != x.shape[:1] or types.device != x.device or types.dtype != torch.int64:
        raise KernelError(
            f"contract_symmetric: types is {list(types.shape)} of {types.dtype} on {types.device}, not "
            f"[{x.shape[0]}] of torch.int64 on {x.device}."
        )
