"""How much arithmetic a convolution needs, and how many bytes must move: what peaks are compared with.

Counted are the operations of the equations in nequip/kernels/tensor_product/README.md, evaluated in the
cheapest order known to us, products and sums one each; what a program does beyond them counts as nothing.
For a path with I input components, K output components, nnz nonzero coefficients C_ijk, and P pairs (i, k)
among them, each edge needs

    once:             M_ik = Σ_j C_ijk Y_j                                  2 nnz - P
    every channel:    out_k += w Σ_i M_ik x_i, w on the shorter side        2 P + min(I, K)

and for the three gradients

    once:             M_ik again; dY_j += Σ_ik C_ijk dM_ik                  4 nnz - P
    every channel:    e_i = Σ_k M_ik g_k                                    2 P - I
                      dx_i += w e_i;  dw = Σ_i e_i x_i                      4 I
                      dM_ik += (w x_i) g_k, w on the shorter side           2 P + min(I, K)

Bytes are those of every array once, as if caches held the features: forwards x, harmonics, weights and
neighbors are read and the sums written; backwards all these and the gradient of the sums are read, and the
gradients of x, harmonics and weights written. `gathered` counts a row of x (and of its gradient) for every
edge, as if caches held nothing; the truth is between the two.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
from bench_kernels_parts.problem import Problem

from nequip.kernels.tensor_product import TensorProductSpec
from nequip.o3 import wigner_3j_array


class Work(NamedTuple):
    """Of one evaluation."""

    operations: float
    bytes_once: float
    bytes_gathered: float


class Works(NamedTuple):
    """Of the sum, and of its three gradients."""

    forward: Work
    backward: Work


def count(problem: Problem) -> Works:
    """The arithmetic and the traffic that `problem` needs."""
    forward, backward = operations_per_edge(problem.spec)
    sizes = {name: _bytes(getattr(problem, name)) for name in ("x", "sh", "weight", "grad")}
    gathered = problem.num_edges * problem.x.shape[1] * problem.x.element_size()
    edges = sizes["sh"] + sizes["weight"]
    index = _bytes(problem.edges.neighbor)
    shared_forward = edges + index + sizes["grad"]  # the sums are as large as their gradient
    shared_backward = 2 * edges + index + sizes["grad"]
    return Works(
        Work(forward * problem.num_edges, shared_forward + sizes["x"], shared_forward + gathered),
        Work(backward * problem.num_edges, shared_backward + 2 * sizes["x"], shared_backward + 2 * gathered),
    )


def operations_per_edge(spec: TensorProductSpec) -> tuple[int, int]:
    """Products and sums of the convolution and of its gradients."""
    forward = backward = 0
    for path in spec.paths:
        left, harmonic = spec.irreps_in.terms[path.block_in][1], spec.irreps_sh.terms[path.block_sh][1]
        nonzero = wigner_3j_array(left.l, harmonic.l, path.irrep_out.l) != 0
        entries, pairs = np.count_nonzero(nonzero), np.count_nonzero(nonzero.any(axis=1))
        shorter = min(left.dim, path.irrep_out.dim)
        channels = spec.channels(path)
        forward += 2 * entries - pairs + channels * (2 * pairs + shorter)
        backward += 4 * entries - pairs + channels * (4 * pairs + 3 * left.dim + shorter)
    return int(forward), int(backward)


def _bytes(array) -> int:
    return prod(array.shape) * array.element_size()
