"""Ours and e3nn behind one face: inputs in the program's own layout, made before anything is timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from bench_kernels_parts.problem import Problem
from e3nn import o3

from nequip.kernels.tensor_product import Backend, TensorProductSpec, convolve
from nequip.o3 import Irreps
from nequip.typing import Float, Tensor

Results = tuple[Tensor, Tensor, Tensor, Tensor]  # the sums; their gradients by x, sh, weight


@dataclass(frozen=True)
class Program:
    """One implementation of the convolution, ready to run on one problem."""

    inputs: tuple[Tensor, Tensor, Tensor]  # x, sh, weight in its own layout, recorded by autograd
    grad: Tensor  # of its output
    call: Callable[[Tensor, Tensor, Tensor], Tensor]
    to_ours: Callable[[Results], Results]

    def forward(self) -> Tensor:
        """What is timed as "forward": the call, while autograd records it."""
        return self.call(*self.inputs)

    def backward(self, out: Tensor) -> tuple[Tensor, ...]:
        """What is timed as "backward": the gradients by x, sh, weight on the graph of `out`, which stays."""
        return torch.autograd.grad(out, self.inputs, self.grad, retain_graph=True)

    def results(self) -> Results:
        """Sums and gradients in our layout."""
        out = self.forward()
        dx, dsh, dweight = self.backward(out)
        return self.to_ours((out.detach(), dx, dsh, dweight))


def ours(problem: Problem, backend: Backend) -> Program:
    """`nequip.kernels.tensor_product.convolve`."""

    def call(x: Tensor, sh: Tensor, weight: Tensor) -> Tensor:
        return convolve(x, sh, weight, problem.edges, spec=problem.spec, backend=backend)

    inputs = recorded(problem.x, problem.sh, problem.weight)
    return Program(inputs, problem.grad, call, lambda results: results)


def e3nn(problem: Problem) -> Program:
    """Gather, `o3.TensorProduct` as published models set it up ("uvu", a weight for each edge), `index_add_`.

    With its "component" and "element" normalisations a path of "uvu" into a block of its own is multiplied
    by √(2 l_out + 1), as ours is, and its weights are [path, channel] too.
    """
    spec = problem.spec
    features, harmonics, outputs, instructions = e3nn_arguments(spec)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of the coefficients that it computes now
    try:
        product = o3.TensorProduct(
            o3.Irreps(features),
            o3.Irreps(harmonics),
            o3.Irreps(outputs),
            instructions,
            shared_weights=False,
            internal_weights=False,
        )
    finally:
        torch.set_default_dtype(default)
    product = product.to(problem.x.device, problem.x.dtype)

    def call(x: Tensor, sh: Tensor, weight: Tensor) -> Tensor:
        message = product(x[problem.edges.neighbor], sh, weight)
        out = message.new_zeros(problem.num_atoms, message.shape[1])
        return out.index_add_(0, problem.edges.center, message)

    return with_channels_first(problem, call)


def e3nn_arguments(spec: TensorProductSpec) -> tuple[str, str, str, list[tuple[int, int, int, str, bool]]]:
    """Irreps of features, harmonics and output as text, and one instruction for each path, in our order."""
    slots = {path: slot for slot, path in enumerate(spec.output_order)}
    outputs = Irreps((spec.channels(spec.paths[p]), spec.paths[p].irrep_out) for p in spec.output_order)
    instructions = [
        (path.block_in, path.block_sh, slots[p], "uvu", True) for p, path in enumerate(spec.paths)
    ]
    return str(spec.irreps_in), str(spec.irreps_sh), str(outputs), instructions


def with_channels_first(problem: Problem, call: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Program:
    """A program whose features are [channel, component], otherwise ordered as ours."""
    spec = problem.spec

    def to_ours(results: Results) -> Results:
        out, dx, dsh, dweight = results
        return components_first(out, spec.irreps_out), components_first(dx, spec.irreps_in), dsh, dweight

    inputs = recorded(channels_first(problem.x, spec.irreps_in), problem.sh, problem.weight)
    return Program(inputs, channels_first(problem.grad, spec.irreps_out), call, to_ours)


def channels_first(x: Float[Tensor, "row dim"], irreps: Irreps) -> Float[Tensor, "row dim"]:
    """Blocks [component, channel] as [channel, component]."""
    return _turned(x, [(block.irrep.dim, block.mul) for block in irreps.blocks()])


def components_first(x: Float[Tensor, "row dim"], irreps: Irreps) -> Float[Tensor, "row dim"]:
    """Blocks [channel, component] as [component, channel]."""
    return _turned(x, [(block.mul, block.irrep.dim) for block in irreps.blocks()])


def _turned(x: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    parts = x.split([rows * columns for rows, columns in shapes], dim=1)
    turned = [
        part.unflatten(1, shape).transpose(1, 2).flatten(1) for part, shape in zip(parts, shapes, strict=True)
    ]
    return torch.cat(turned, dim=1)


def recorded(*values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Leaves for autograd, each with memory of its own order."""
    x, sh, weight = (value.detach().contiguous().requires_grad_() for value in values)
    return x, sh, weight
