"""The contraction in plain PyTorch, compiled by torch.compile. See README.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import torch

from allegro.contraction.autograd import SIGNATURE, parse, register
from allegro.contraction.layout import first_components, terms
from allegro.contraction.spec import ContractionSpec
from nequip.kernels.compiled_functions import compile_function
from nequip.kernels.edges import Edges
from nequip.kernels.operators import Functions, define
from nequip.kernels.trilinear import hessian_of
from nequip.o3 import Irreps
from nequip.typing import Float, Int, Tensor


def contract(
    tensors: Float[Tensor, "edge component_channel"],
    env: Float[Tensor, "row component_channel"],
    weight: Float[Tensor, "path channel"],
    edges: Edges,
    spec: ContractionSpec,
) -> Float[Tensor, "edge component_channel"]:
    """The product, through the operator; see allegro.contraction.contract."""
    prepare()
    return torch.ops.nequip.contract_compiled(tensors, env, weight, edges.row_ptr, spec.text)


# ---- The operators ------------------------------------------------------------------------------------


@torch.compiler.assume_constant_result
def prepare() -> None:
    """Define the operators, once."""
    _define_operators()


@cache
def _define_operators() -> None:
    define("contract_compiled", SIGNATURE, Functions(_value, _gradient, hessian_of(_value, _gradient)))
    register("contract_compiled")


def _value(tensors: Tensor, env: Tensor, weight: Tensor, row_ptr: Tensor, spec: str) -> Tensor:
    functions = _functions(spec, tensors.dtype, tensors.device)
    return functions.value(tensors, env, weight, _center(row_ptr, tensors))


def _gradient(grad: Tensor, tensors: Tensor, env: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    row_ptr, spec = rest
    functions = _functions(spec, tensors.dtype, tensors.device)
    return functions.gradient(tensors, env, weight, _center(row_ptr, tensors), grad)


def _center(row_ptr: Tensor, tensors: Tensor) -> Int[Tensor, " edge"]:
    return torch.repeat_interleave(row_ptr.diff(), output_size=tensors.shape[0])


# ---- What is compiled ---------------------------------------------------------------------------------


class _Functions(NamedTuple):
    """The product and its gradient for one specification."""

    value: Callable[..., Tensor]
    gradient: Callable[..., tuple[Tensor, Tensor, Tensor]]


class _Pair(NamedTuple):
    """The paths from one input block to one output block."""

    block_in: int
    block_out: int
    shape: tuple[int, int]  # components k and i
    paths: list[int]
    couplings: list[Float[Tensor, "k_i j"]]  # of each path, j through the whole environment


WEIGHT = 2  # the place of the weights among the arguments: there are always as many


@cache
def _functions(text: str, dtype: torch.dtype, device: torch.device) -> _Functions:
    spec = parse(text)
    pairs = _pairs(spec, dtype, device)
    label = sha256(f"{text} {dtype} {device}".encode()).hexdigest()[:16]
    return _Functions(
        compile_function(_value_of(pairs, spec), f"contract_{label}", device, {WEIGHT}),
        compile_function(_gradient_of(pairs, spec), f"contract_backward_{label}", device, {WEIGHT}),
    )


def _pairs(spec: ContractionSpec, dtype: torch.dtype, device: torch.device) -> list[_Pair]:
    joined: dict[tuple[int, int], list[int]] = {}
    for p, path in enumerate(spec.paths):
        joined.setdefault((path.block_in, path.block_out), []).append(p)
    inputs, harmonics, outputs = map(first_components, (spec.irreps_in, spec.irreps_env, spec.irreps_out))
    couplings = [np.zeros((outputs[-1], inputs[-1], harmonics[-1])) for _ in spec.paths]
    for term in terms(spec):
        couplings[term.path][term.k, term.i, term.j] = term.value
    pairs: list[_Pair] = []
    for (left, out), paths in joined.items():
        rows, columns = slice(*outputs[out : out + 2]), slice(*inputs[left : left + 2])
        blocks = [torch.tensor(couplings[p][rows, columns], dtype=dtype, device=device) for p in paths]
        shape = (blocks[0].shape[0], blocks[0].shape[1])
        pairs.append(_Pair(left, out, shape, paths, [block.flatten(0, 1) for block in blocks]))
    return pairs


def _value_of(pairs: list[_Pair], spec: ContractionSpec) -> Callable[..., Tensor]:
    def value(tensors: Tensor, env: Tensor, weight: Tensor, center: Tensor) -> Tensor:
        features = _blocks(tensors, spec.irreps_in)
        surroundings = env.unflatten(1, (-1, spec.channels))
        out = [tensors.new_zeros(tensors.shape[0], irrep.dim, mul) for mul, irrep in spec.irreps_out]
        for pair in pairs:
            table = _table(pair, surroundings, weight).index_select(0, center)
            product = (table * features[pair.block_in].unsqueeze(1)).sum(2)
            out[pair.block_out] = out[pair.block_out] + product
        return torch.cat([block.flatten(1) for block in out], 1)

    return value


def _gradient_of(pairs: list[_Pair], spec: ContractionSpec) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def gradient(
        tensors: Tensor, env: Tensor, weight: Tensor, center: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        features, grads = _blocks(tensors, spec.irreps_in), _blocks(grad, spec.irreps_out)
        surroundings = env.unflatten(1, (-1, spec.channels))
        dtensors = [torch.zeros_like(block) for block in features]
        denv = torch.zeros_like(surroundings)
        dweight = [weight.new_zeros(spec.channels) for _ in spec.paths]
        for pair in pairs:
            x, g = features[pair.block_in].unsqueeze(1), grads[pair.block_out].unsqueeze(2)
            table = _table(pair, surroundings, weight).index_select(0, center)
            dtensors[pair.block_in] = dtensors[pair.block_in] + (table * g).sum(1)
            outer = env.new_zeros(env.shape[0], *pair.shape, spec.channels).index_add(0, center, g * x)
            for p, coupling in zip(pair.paths, pair.couplings, strict=True):
                q = _times(coupling.t(), outer.flatten(1, 2))
                denv = denv + weight[p] * q
                dweight[p] = (surroundings * q).sum((0, 1))
        return torch.cat([block.flatten(1) for block in dtensors], 1), denv.flatten(1), torch.stack(dweight)

    return gradient


def _table(
    pair: _Pair, env: Float[Tensor, "row j channel"], weight: Float[Tensor, "path channel"]
) -> Float[Tensor, "row k i channel"]:
    """`T_ik = Σ_p W_p Σ_j C_pijk E_j`."""
    products = [weight[p] * _times(c, env) for p, c in zip(pair.paths, pair.couplings, strict=True)]
    return torch.stack(products).sum(0).unflatten(1, pair.shape)


def _times(matrix: Float[Tensor, "k j"], x: Float[Tensor, "row j channel"]) -> Float[Tensor, "row k channel"]:
    return torch.bmm(matrix.expand(x.shape[0], -1, -1), x)


def _blocks(x: Float[Tensor, "edge component_channel"], irreps: Irreps) -> list[Tensor]:
    """Each block as [edge, component, channel]."""
    parts = x.split([mul * irrep.dim for mul, irrep in irreps], dim=1)
    return [part.unflatten(1, (irrep.dim, mul)) for part, (mul, irrep) in zip(parts, irreps, strict=True)]
