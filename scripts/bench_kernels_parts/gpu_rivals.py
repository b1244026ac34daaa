"""OpenEquivariance and cuEquivariance, where they are installed. Not tried so far.

Written from the documentation and sources of openequivariance 0.7 and cuequivariance 0.13. The layouts of
cuEquivariance were checked with its plain PyTorch method on a CPU; those of OpenEquivariance are e3nn's, as
it says. Like every program, they are timed only after their values and gradients agreed with e3nn's.
"""

from __future__ import annotations

from importlib.util import find_spec
from math import sqrt

import numpy as np
import torch
from bench_kernels_parts.problem import Problem
from bench_kernels_parts.programs import Program, Results, e3nn_arguments, recorded, with_channels_first

from nequip.kernels.tensor_product import TensorProductSpec
from nequip.o3 import wigner_3j_array
from nequip.typing import Float, Tensor


def installed_rivals() -> list[str]:
    """Those of this file that can be imported; cuEquivariance without its kernels would run slowly."""
    needed = {
        "openequivariance": ["openequivariance"],
        "cuequivariance": ["cuequivariance_torch", "cuequivariance_ops_torch"],
    }
    return [name for name, modules in needed.items() if all(map(find_spec, modules))]


def openequivariance(problem: Problem) -> Program:
    """Its fused convolution without atomics, which needs edges sorted by (center, neighbor) both ways."""
    import openequivariance as oeq

    number = np.float64 if problem.x.dtype == torch.float64 else np.float32
    features, harmonics, outputs, instructions = e3nn_arguments(problem.spec)
    described = oeq.TPProblem(
        oeq.Irreps(features),
        oeq.Irreps(harmonics),
        oeq.Irreps(outputs),
        instructions,
        shared_weights=False,
        internal_weights=False,
        irrep_dtype=number,
        weight_dtype=number,
    )
    convolution = oeq.TensorProductConv(described, deterministic=True)
    edges = problem.edges

    def call(x: Tensor, sh: Tensor, weight: Tensor) -> Tensor:
        return convolution(x, sh, weight, edges.center, edges.neighbor, edges.transpose)

    return with_channels_first(problem, call)


def cuequivariance(problem: Problem) -> Program:
    """Its segmented polynomial with gathered features and summed outputs (`uniform_1d`)."""
    import cuequivariance as cue
    import cuequivariance_torch as cuet

    spec, edges = problem.spec, problem.edges
    described = cue.SegmentedTensorProduct.from_subscripts("u,iu,j,ku+ijk")
    for mul, irrep in spec.irreps_in:
        described.add_segment(1, (irrep.dim, mul))
    for _, irrep in spec.irreps_sh:
        described.add_segment(2, (irrep.dim,))
    for path in spec.paths:
        described.add_segment(0, (spec.channels(path),))
    for index in spec.output_order:
        path = spec.paths[index]
        left, harmonic = spec.irreps_in.terms[path.block_in][1], spec.irreps_sh.terms[path.block_sh][1]
        coupling = sqrt(path.irrep_out.dim) * wigner_3j_array(left.l, harmonic.l, path.irrep_out.l)
        described.add_path(index, path.block_in, path.block_sh, None, c=coupling)
    polynomial = cue.SegmentedPolynomial.eval_last_operand(described.flatten_coefficient_modes())
    method = "uniform_1d" if problem.x.is_cuda else "naive"
    product = cuet.SegmentedPolynomial(polynomial, method=method, math_dtype=problem.x.dtype)
    product = product.to(problem.x.device)
    rows = problem.x.new_empty(problem.num_atoms, 1)  # it reads the number of rows from a tensor

    def call(x: Tensor, sh: Tensor, weight: Tensor) -> Tensor:
        (out,) = product([weight, x, sh], {1: edges.neighbor}, {0: rows}, {0: edges.center})
        return out

    def to_ours(results: Results) -> Results:
        out, *gradients = results
        return (merged(out, spec), *gradients)

    return Program(
        recorded(problem.x, problem.sh, problem.weight), unmerged(problem.grad, spec), call, to_ours
    )


def merged(out: Float[Tensor, "row dim"], spec: TensorProductSpec) -> Float[Tensor, "row dim"]:
    """A block [component, channel] for each path, as blocks that hold the channels of all equal irreps."""
    paths = [spec.paths[index] for index in spec.output_order]
    parts = out.split([spec.channels(path) * path.irrep_out.dim for path in paths], dim=1)
    blocks = [
        [
            part.unflatten(1, (irrep.dim, -1))
            for part, path in zip(parts, paths, strict=True)
            if path.irrep_out == irrep
        ]
        for _, irrep in spec.irreps_out
    ]
    return torch.cat([torch.cat(block, dim=2).flatten(1) for block in blocks], dim=1)


def unmerged(out: Float[Tensor, "row dim"], spec: TensorProductSpec) -> Float[Tensor, "row dim"]:
    """The inverse of `merged`."""
    paths = [spec.paths[index] for index in spec.output_order]
    blocks = out.split([block.dim for block in spec.irreps_out.blocks()], dim=1)
    parts: list[Tensor] = []
    for block, (_, irrep) in zip(blocks, spec.irreps_out, strict=True):
        widths = [spec.channels(path) for path in paths if path.irrep_out == irrep]
        parts += [part.flatten(1) for part in block.unflatten(1, (irrep.dim, -1)).split(widths, dim=2)]
    return torch.cat(parts, dim=1)
