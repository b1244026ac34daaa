"""Allegro's two sums over edges, with interchangeable backends: the environment, and the product with it."""

from __future__ import annotations

from allegro.contraction import compiled, convolved, cpu, reference
from allegro.contraction.spec import ContractionSpec, Path
from nequip.errors import KernelError
from nequip.kernels.backend import Backend
from nequip.kernels.dispatch import chosen_backend
from nequip.kernels.edges import Edges
from nequip.o3 import Irreps
from nequip.typing import Float, Tensor

__all__ = ["Backend", "ContractionSpec", "Path", "contract", "environment", "weighted_harmonics"]


def environment(
    sh: Float[Tensor, "edge component"],
    weight: Float[Tensor, "edge irrep_channel"],
    edges: Edges,
    *,
    irreps: Irreps,
    backend: Backend = "auto",
) -> Float[Tensor, "row component_channel"]:
    """Σ over the neighbors of each center of Y ⊗ w: what surrounds an atom, in `irreps`.

    Linear in `sh` and `weight`; differentiable to any order. The maths is in README.md.

    Args:
        sh: spherical harmonics of the irreps of `irreps`, one channel each.
        weight: [irrep, channel] of each edge.
        edges: sorted by center; there are as many rows of output as `row_ptr` has.
        irreps: of the output, the same number of channels for each.
        backend: "auto" takes the fastest that runs on the device.

    Raises:
        KernelError: for a backend that cannot run here, and for arrays that do not fit `irreps`.
    """
    _check_harmonics(sh, weight, irreps)
    _check("sh", sh, (edges.center.shape[0], sh.shape[1]), sh)
    chosen = chosen_backend(backend, sh.device.type)
    if chosen == "reference":
        return reference.environment(sh, weight, edges, irreps)
    return convolved.environment(sh, weight, edges, irreps, chosen)


def weighted_harmonics(
    sh: Float[Tensor, "edge component"],
    weight: Float[Tensor, "edge irrep_channel"],
    *,
    irreps: Irreps,
    backend: Backend = "auto",
) -> Float[Tensor, "edge component_channel"]:
    """Y ⊗ w of every edge: what `environment` sums, with the same arguments."""
    _check_harmonics(sh, weight, irreps)
    chosen = chosen_backend(backend, sh.device.type)
    if chosen == "reference":
        return reference.weighted_harmonics(sh, weight, irreps)
    return convolved.weighted_harmonics(sh, weight, irreps, chosen)


def contract(
    tensors: Float[Tensor, "edge component_channel"],
    env: Float[Tensor, "row component_channel"],
    weight: Float[Tensor, "path channel"],
    edges: Edges,
    *,
    spec: ContractionSpec,
    backend: Backend = "auto",
) -> Float[Tensor, "edge component_channel"]:
    """Σ_p w[p] · C_p(V[edge], env[center of the edge]), along the paths of `spec`, channel by channel.

    Linear in `tensors`, `env` and `weight`; differentiable to any order. The maths is in README.md.

    Args:
        tensors: features V of `spec.irreps_in`, each block [component, channel].
        env: environments of `spec.irreps_env`, one row for each center.
        weight: [path, channel] in the order of `spec.paths`, the same for all edges.
        edges: sorted by center.
        backend: "auto" takes the fastest that runs on the device.

    Raises:
        KernelError: for a backend that cannot run here, and for arrays that do not fit `spec`.
    """
    if not spec.paths:
        raise KernelError(f"contract: {spec} has no paths: keep an irrep of the product.")
    _check("tensors", tensors, (edges.center.shape[0], spec.irreps_in.dim), tensors)
    _check("env", env, (edges.row_ptr.shape[0] - 1, spec.irreps_env.dim), tensors)
    _check("weight", weight, (len(spec.paths), spec.channels), tensors)
    chosen = chosen_backend(backend, tensors.device.type)
    if chosen == "cpu":
        return cpu.contract(tensors, env, weight, edges, spec)
    if chosen == "triton":
        from allegro.contraction import triton_operators  # an import that not every machine can do

        return triton_operators.contract(tensors, env, weight, edges, spec)
    if chosen == "compiled":
        return compiled.contract(tensors, env, weight, edges, spec)
    return reference.contract(tensors, env, weight, edges, spec)


def _check_harmonics(sh: Tensor, weight: Tensor, irreps: Irreps) -> None:
    num_edges, channels = sh.shape[0], irreps.terms[0][0]
    _check("sh", sh, (num_edges, irreps.dim // channels), sh)
    _check("weight", weight, (num_edges, len(irreps) * channels), sh)


def _check(name: str, x: Tensor, shape: tuple[int, int], like: Tensor) -> None:
    if x.shape != shape:
        raise KernelError(f"{name} has the shape {tuple(x.shape)}, but {shape} is what fits the irreps.")
    if x.dtype != like.dtype or x.device != like.device:
        raise KernelError(
            f"{name} is {x.dtype} on {x.device}, not {like.dtype} on {like.device}: convert it."
        )
