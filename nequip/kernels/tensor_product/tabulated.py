"""The convolution with weights that are functions of one number, taken from a table of splines.

In message passing the weights of an edge depend on its length alone. With their values, slopes and
curvatures at equidistant knots, six terms give each weight where the network that it was made from
takes hundreds, and no [edge, path, channel] array is ever written: `torch.ops.nequip.conv_table`
evaluates them edge by edge. Quintic Hermite interpolation: two continuous derivatives, an error of
order step⁶ (Burden and Faires, Numerical Analysis, section 3.4).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch

from nequip.kernels.backend import Backend
from nequip.kernels.dispatch import chosen_backend
from nequip.kernels.edges import Edges
from nequip.kernels.native.generated import call
from nequip.kernels.operators import check_devices
from nequip.kernels.tensor_product import convolve, cpu
from nequip.kernels.tensor_product.autograd import parse
from nequip.kernels.tensor_product.checks import check_arrays
from nequip.kernels.tensor_product.spec import TensorProductSpec
from nequip.typing import Float, Tensor

# Columns: what multiplies value, slope, curvature at the left knot and at the right one; rows: powers of t.
_HERMITE = (
    (1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.5, 0.0, 0.0, 0.0),
    (-10.0, -6.0, -1.5, 10.0, -4.0, 0.5),
    (15.0, 8.0, 1.5, -15.0, 7.0, -1.0),
    (-6.0, -3.0, -0.5, 6.0, -3.0, 0.5),
)


class Piece(NamedTuple):
    """Equidistant knots, from one argument to that of the next piece or to the end."""

    start: float  # argument at the first knot
    step: float  # from one knot to the next
    first: int  # number of its first knot


class WeightTable(NamedTuple):
    """Weights at knots; slopes and curvatures are by the position, in which knots are one apart.

    Where two pieces meet there are two knots, so that a weight may have a kink there.
    """

    knots: Float[Tensor, "knot 3 path_channel"]
    pieces: tuple[Piece, ...]

    def position(self, argument: Float[Tensor, " edge"]) -> Float[Tensor, " edge"]:
        """Places between the knots, in float64."""
        argument = argument.double()
        first, *others = self.pieces
        position = (argument - first.start) / first.step
        for start, step, knot in others:
            position = torch.where(argument < start, position, knot + (argument - start) / step)
        return position


def evaluate(
    knots: Float[Tensor, "knot 3 path_channel"], position: Float[Tensor, " edge"], derivative: int = 0
) -> Float[Tensor, "edge path_channel"]:
    """The weights of each edge, or their derivative by position; differentiable in `position`.

    Below the first knot its polynomial goes on; beyond the last one its value holds.
    """
    last = knots.shape[0] - 1
    place = position.clamp(max=last)
    interval = place.detach().floor().clamp(0, last - 1)
    t = (place - interval).unsqueeze(1)
    powers = _powers(t, derivative)
    basis = (powers @ torch.tensor(_HERMITE, dtype=t.dtype, device=t.device)).to(knots.dtype)
    first, rows = 3 * interval.long(), knots.flatten(0, 1)
    values = basis.new_zeros(basis.shape[0], knots.shape[2])
    for row, factor in enumerate(basis.unbind(1)):  # one at a time: all six rows of all edges are large
        values = values + factor.unsqueeze(1) * rows.index_select(0, first + row)
    return values if derivative == 0 else values * (position <= last).to(values.dtype).unsqueeze(1)


def _powers(t: Float[Tensor, "edge 1"], derivative: int) -> Float[Tensor, "edge 6"]:
    """t⁰ ... t⁵, or their first derivatives."""
    if derivative == 0:
        return torch.cat([t**n for n in range(6)], dim=1)
    return torch.cat([torch.zeros_like(t), *(n * t ** (n - 1) for n in range(1, 6))], dim=1)


def convolve_tabulated(
    x: Float[Tensor, "source component_in"],
    sh: Float[Tensor, "edge component_sh"],
    position: Float[Tensor, " edge"],
    knots: Float[Tensor, "knot 3 path_channel"],
    edges: Edges,
    *,
    spec: TensorProductSpec,
    backend: Backend = "auto",
) -> Float[Tensor, "row component_out"]:
    """`convolve` with the weights that a table has at `position`; no gradient for the table.

    Differentiable to any order in x, sh and position; what is saved is the first order, the others
    go through the weights.

    Raises:
        KernelError: as `convolve`.
    """
    num_edges, columns = edges.neighbor.numel(), spec.num_weights
    weights = {
        "position": (position, (num_edges,), torch.float64),
        "knots": (knots, ("knot", 3, columns), x.dtype),
    }
    check_arrays(x, sh, edges, spec, weights)
    if chosen_backend(backend, x.device.type) == "cpu":
        cpu.prepare(spec.text, x.dtype)
        _register()
        return call("convolve", torch.ops.nequip.conv_table, x, sh, position, knots, *edges, spec.text)
    return convolve(x, sh, evaluate(knots, position), edges, spec=spec, backend=backend)


@torch.compiler.assume_constant_result
def _register() -> None:
    _register_once()


@cache
def _register_once() -> None:
    """Shapes and derivatives of the operators, once their library is loaded."""
    ops = torch.ops.nequip

    names = ("x", "sh", "position", "knots", "center", "neighbor", "row_ptr", "transpose")

    def fake_value(*arguments: Any) -> Tensor:
        check_devices("conv", names, arguments)
        x, row_ptr, spec = arguments[0], arguments[6], arguments[8]
        return x.new_empty(row_ptr.shape[0] - 1, parse(spec).irreps_out.dim)

    def fake_gradient(*arguments: Any) -> tuple[Tensor, ...]:
        check_devices("conv", ("grad", *names), arguments)
        return tuple(value.new_empty(value.shape) for value in arguments[1:4])

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:-1])
        ctx.spec = inputs[-1]

    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors  # to be read once: torch.utils.checkpoint keeps them for one time
        x, sh, position, knots, *indices = saved
        no_others = (None,) * 6  # knots, indices, spec
        if not torch.is_grad_enabled():
            return *ops.conv_table_backward(grad, *saved, ctx.spec), *no_others
        weight, slope = evaluate(knots, position), evaluate(knots, position, derivative=1)
        dx, dsh, dweight = ops.conv_backward(grad, x, sh, weight, *indices, ctx.spec)
        return dx, dsh, (dweight * slope).sum(1).double(), *no_others

    torch.library.register_fake("nequip::conv_table")(fake_value)
    torch.library.register_fake("nequip::conv_table_backward")(fake_gradient)
    torch.library.register_autograd("nequip::conv_table", backward, setup_context=keep)
