"""The operators of a kernel: its value, the gradient, and the product of the Hessian with a direction.

Whatever the kernel and the backend, they are `nequip::<name>`, `..._backward` and `..._double_backward`. Here
they are defined, and told which shapes they return; derivatives of forms are in trilinear.py.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter
from inspect import Signature as PythonSignature
from typing import Any, NamedTuple

import torch

from nequip.errors import KernelError
from nequip.typing import Tensor

Prepare = Callable[[str, torch.dtype], None]


def prepare_nothing(spec: str, dtype: torch.dtype) -> None:
    """For a backend whose Hessian needs no preparation."""


class Signature(NamedTuple):
    """What the operators of a kernel take, by name; the text of a specification comes last."""

    kernel: str  # as errors call it
    values: tuple[str, ...]  # what it is differentiated by
    indices: tuple[str, ...]

    @property
    def arguments(self) -> dict[str, tuple[str, ...]]:
        """The tensors that each operator takes, in order, by what the operator's name ends in."""
        value = (*self.values, *self.indices)
        gradient = ("grad", *value)
        along = tuple(f"along_{name}" for name in self.values)
        return {"": value, "_backward": gradient, "_double_backward": (*along, *gradient)}


class Functions(NamedTuple):
    """What the operators compute, from arguments as `Signature` has them."""

    value: Callable[..., Tensor]
    gradient: Callable[..., tuple[Tensor, ...]]  # by each value
    hessian: Callable[..., tuple[Tensor, ...]]  # times the direction (0, along): by grad and each value


def define(name: str, signature: Signature, functions: Functions) -> None:
    """Operators of functions that compilers of graphs do not look into."""
    for suffix, function in _typed(signature, functions).items():
        schema = torch.library.infer_schema(function, mutates_args=())
        torch.library.define(f"nequip::{name}{suffix}", schema)
        torch.library.impl(f"nequip::{name}{suffix}", ("cpu", "cuda"), function)


def define_by_triton(name: str, signature: Signature, functions: Functions) -> None:
    """Operators whose Triton kernels compilers of graphs see; they need not be told shapes."""
    for suffix, function in _typed(signature, functions).items():
        torch.library.triton_op(f"nequip::{name}{suffix}", function, mutates_args=())


def register_shapes(
    name: str,
    signature: Signature,
    empty_value: Callable[..., Tensor],
    prepare_second: Prepare = prepare_nothing,
) -> None:
    """Give the operators fake functions, which return empty tensors of the right shapes.

    Args:
        empty_value: of the arguments of the value.
        prepare_second: called with the specification and dtype when a gradient is traced: graphs that
            torch.compile finds in its cache come with their derivatives, and nothing of ours runs between.
    """
    names, count = signature.arguments, len(signature.values)

    def fake_value(*arguments: Any) -> Tensor:
        check_devices(signature.kernel, names[""], arguments)
        return empty_value(*arguments)

    def fake_gradient(*arguments: Any) -> tuple[Tensor, ...]:
        check_devices(signature.kernel, names["_backward"], arguments)
        prepare_second(arguments[-1], arguments[0].dtype)
        return tuple(value.new_empty(value.shape) for value in arguments[1 : count + 1])

    def fake_hessian(*arguments: Any) -> tuple[Tensor, ...]:
        check_devices(signature.kernel, names["_double_backward"], arguments)
        return tuple(value.new_empty(value.shape) for value in arguments[count : 2 * count + 1])

    fakes = {"": fake_value, "_backward": fake_gradient, "_double_backward": fake_hessian}
    for suffix, fake in fakes.items():
        torch.library.register_fake(f"nequip::{name}{suffix}")(fake)


def check_devices(operator: str, names: tuple[str, ...], arguments: tuple[Any, ...]) -> None:
    """One argument on the meta device among others sends a call to its fake function: it must not return.

    Raises:
        KernelError: naming the first argument that is elsewhere.
    """
    device = arguments[0].device
    for name, value in zip(names, arguments, strict=False):
        if value.device != device:
            raise KernelError(
                f"{operator}: {name} is on {value.device}, but {names[0]} is on {device}: move one."
            )


def _typed(signature: Signature, functions: Functions) -> dict[str, Callable[..., Any]]:
    """The functions, each with names and types of its arguments: torch makes a schema of these."""
    count = len(signature.values)
    results = (Tensor, tuple[(Tensor,) * count], tuple[(Tensor,) * (count + 1)])
    typed: dict[str, Callable[..., Any]] = {}
    for function, result, (suffix, names) in zip(
        functions, results, signature.arguments.items(), strict=True
    ):
        types = {**dict.fromkeys(names, Tensor), "spec": str}
        parameters = [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=kind) for name, kind in types.items()
        ]
        typed[suffix] = _with_signature(function, PythonSignature(parameters, return_annotation=result))
    return typed


def _with_signature(function: Callable[..., Any], signature: PythonSignature) -> Callable[..., Any]:
    def operator(*arguments: Any) -> Any:
        return function(*arguments)

    operator.__signature__ = signature
    return operator


def is_wanted(ctx: Any, argument: int) -> bool:
    """Whether the gradient by an argument goes anywhere in this backward pass.

    `needs_input_grad` says what it could serve in any pass; for forces that are the gradient by
    positions alone, weights would be differentiated for nothing. Of leaves the engine cannot tell.
    """
    node = ctx.next_functions[argument][0]
    if node is None or not node.next_functions:
        return node is not None
    return torch._C._will_engine_execute_node(node)  # pyright: ignore[reportPrivateUsage]
