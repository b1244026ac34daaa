"""The symmetric contraction and its derivatives by Triton kernels: plain tensors in and out, no autograd.

Every element of every result is written by one program in one order: no atomics, no zeroed buffers.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch

from mace_ext.contraction.layout import terms
from mace_ext.contraction.points import Point
from mace_ext.contraction.spec import SymmetricSpec
from mace_ext.contraction.triton_source import tile_channels, triton_sources
from nequip.kernels.generated_triton import Kernel, dtype_name, launch, load
from nequip.typing import Float, Int, Tensor

Arguments = dict[str, Any]


class Kernels(NamedTuple):
    """The derivatives by grad, by x, and by coefficients."""

    by_grad: Kernel
    by_x: Kernel
    by_coefficients: Kernel


@cache
def kernels(spec: SymmetricSpec, dtype: torch.dtype, order: int, moving: bool) -> Kernels:
    """The kernels of one specification; Triton compiles each when it is first launched.

    Raises:
        KernelError: for a dtype other than float32 and float64.
    """
    return Kernels(*map(load, triton_sources(spec, dtype_name(dtype), order, moving)))


class Call:
    """The arrays of one call: what kernels read, by the names that they give it.

    Args:
        along: directions as points.stack makes them; None for none.
    """

    def __init__(
        self,
        point: Point,
        types: Int[Tensor, " atom"],
        spec: SymmetricSpec,
        along: tuple[Tensor, Tensor, Tensor] | None = None,
    ):
        assert point.x is not None
        assert point.weight is not None
        self.spec, self.x, self.weight, self.types = spec, point.x, point.weight, types
        self.table = torch.as_tensor(terms(spec).weights).to(self.x)
        arguments: Arguments = {"x": self.x, "types": types, "c": self._coefficients(self.weight)}
        arguments |= {"num_atoms": self.x.shape[0], "num_types": self.weight.shape[0]}
        order, moving = 0, False
        if point.grad is not None:
            arguments["grad"] = point.grad
        if along is not None:
            along_grad, along_x, along_weight = along
            order, moving = along_x.shape[0], along_weight.shape[1] > 0
            arguments |= {"along_grad": along_grad, "along_x": along_x}
            if moving:
                arguments["along_c"] = self._coefficients(along_weight.flatten(0, 1))
        self.kernels = kernels(spec, self.x.dtype, order, moving)
        self.arguments = arguments | self._tables()

    def by_grad(self) -> Float[Tensor, "atom component_out_channel"]:
        """The contraction itself, or what stands for it along directions."""
        out = self.x.new_empty(self.x.shape[0], self.spec.irreps_out.dim)
        self._launch(self.kernels.by_grad, out)
        return out

    def by_x(self) -> Float[Tensor, "atom component_channel"]:
        """The gradient by features."""
        out = self.x.new_empty(self.x.shape)
        self._launch(self.kernels.by_x, out)
        return out

    def by_weight(self) -> Float[Tensor, "type path_channel"]:
        """The gradient by weights: that by coefficients, and what they are made of."""
        num_types = self.weight.shape[0]
        out = self.x.new_empty(num_types, self.table.shape[0] * self.spec.channels)
        found = torch.sort(self.types, stable=True)
        ends = torch.arange(num_types + 1, device=self.types.device)
        self.arguments |= {"atom_of": found.indices, "type_ptr": torch.searchsorted(found.values, ends)}
        self._launch(self.kernels.by_coefficients, out)
        return (self.table.t() @ out.unflatten(1, (-1, self.spec.channels))).flatten(1)

    def _launch(self, kernel: Kernel, out: Tensor) -> None:
        """A program for each row of channels of `out`, and block of these."""
        rows = out.shape[0] * (out.shape[1] // self.spec.channels)
        blocks = -(-self.spec.channels // tile_channels(self.spec))
        launch(kernel, (rows, blocks), {**self.arguments, "out": out})

    def _coefficients(self, weight: Float[Tensor, "row path_channel"]) -> Tensor:
        """[row, term x channel]."""
        return (self.table @ weight.unflatten(1, (-1, self.spec.channels))).flatten(1)

    def _tables(self) -> Arguments:
        """Copied at every call: a tensor made while torch traces is a fake one, and must not outlive it."""
        found, device = terms(self.spec), self.x.device
        tables = {
            "component_ptr": found.component_ptr,
            "component_of": found.component,
            "variables": found.variables,
            "variable_ptr": found.variable_ptr,
            "term_of": found.term,
            "others": found.others,
        }
        return {name: torch.as_tensor(table, device=device) for name, table in tables.items()}
