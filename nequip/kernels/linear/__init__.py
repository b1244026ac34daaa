"""Linear maps between equal irreps: a matrix for each irrep, one for all atoms or one for each type."""

from __future__ import annotations

from nequip.errors import KernelError
from nequip.kernels.backend import Backend
from nequip.kernels.dispatch import chosen_backend
from nequip.kernels.linear import cpu, reference
from nequip.kernels.linear.spec import LinearSpec
from nequip.typing import Float, Int, Tensor

__all__ = ["LinearSpec", "map_irreps"]


def map_irreps(
    x: Float[Tensor, "atom component_in"],
    weight: Float[Tensor, "type weight"],
    types: Int[Tensor, " atom"] | None,
    *,
    spec: LinearSpec,
    backend: Backend = "auto",
) -> Float[Tensor, "atom component_out"]:
    """`y[n, k, c, v] = Σ_u x[n, k, c, u] W[t_n, k, u, v] / √fan_in` for every irrep k that both sides have.

    Irreps of the output that the input lacks come out as zeros. Linear in `x` and in `weight`, and
    differentiable to any order.

    Args:
        weight: the matrices of `spec.matrices`, one after the other, a row for each type.
        types: of each atom; None where there is one row for all.
        backend: "cpu" runs all irreps in one operator; every other one multiplies irrep by irrep.

    Raises:
        KernelError: for arrays that do not fit `spec`.
    """
    _check(x, weight, types, spec)
    if chosen_backend(backend, x.device.type) == "cpu":
        return cpu.map_irreps(x, weight, types, spec)
    return reference.map_irreps(x, weight, types, spec)


def _check(x: Tensor, weight: Tensor, types: Tensor | None, spec: LinearSpec) -> None:
    shapes = (x.shape[1:], weight.shape[1:])
    if shapes != ((spec.irreps_in.dim,), (spec.num_weights,)):
        raise KernelError(
            f"map_irreps: x is {list(x.shape)} and weight is {list(weight.shape)}, not "
            f"[atom, {spec.irreps_in.dim}] and [type, {spec.num_weights}], for {spec.text}."
        )
    if weight.dtype != x.dtype or weight.device != x.device:
        raise KernelError(
            f"map_irreps: weight is {weight.dtype} on {weight.device} where x is {x.dtype} on {x.device}."
        )
    if types is None and weight.shape[0] != 1:
        raise KernelError(f"map_irreps: weight has {weight.shape[0]} rows, but no types say which is whose.")
    if types is not None and (types.shape != x.shape[:1] or types.device != x.device):
        raise KernelError(
            f"map_irreps: types is {list(types.shape)} on {types.device}, not [{x.shape[0]}] on {x.device}."
        )
