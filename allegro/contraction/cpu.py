"""The contraction in generated C++: `torch.ops.nequip.contract`, a library for each specification."""

from __future__ import annotations

from functools import cache, partial

import torch

from allegro.contraction.autograd import parse, register
from allegro.contraction.cpu_source import cpu_source
from allegro.contraction.spec import ContractionSpec
from nequip.kernels.edges import Edges
from nequip.kernels.native.generated import call, provide
from nequip.kernels.native.library import load_operators
from nequip.typing import Float, Tensor


def contract(
    tensors: Float[Tensor, "edge component_channel"],
    env: Float[Tensor, "row component_channel"],
    weight: Float[Tensor, "path channel"],
    edges: Edges,
    spec: ContractionSpec,
) -> Float[Tensor, "edge component_channel"]:
    """The product on the CPU, through the operator; see allegro.contraction.contract.

    Raises:
        KernelError: as `prepare`, and for rows of edges that the operator finds wrong.
    """
    prepare(spec.text, tensors.dtype)
    return call("contract", torch.ops.nequip.contract, tensors, env, weight, edges.row_ptr, spec.text)


@torch.compiler.assume_constant_result
def prepare(spec: str, dtype: torch.dtype) -> None:
    """Build and load what the contraction and its derivatives need.

    Raises:
        KernelError: without a C++ compiler, or for a dtype other than float32 and float64.
    """
    _operators()
    _load(spec, dtype)


@cache
def _operators() -> None:
    load_operators()
    register("contract")


@cache
def _load(spec: str, dtype: torch.dtype) -> None:
    provide("contraction", spec, dtype, partial(cpu_source, parse(spec)))
