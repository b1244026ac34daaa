"""A potential in training as machine code: energy, forces and stress, and what they are by the weights."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from math import inf, isfinite
from typing import Any, NamedTuple

import torch
from torch.fx import GraphModule

from nequip.data.graph import AtomicGraph, Labels
from nequip.errors import ModelError, TrainingError
from nequip.export.card import INPUTS
from nequip.export.examples import FIRST, SECOND, Sizes, example_inputs
from nequip.export.trace import trace
from nequip.kernels.native.compiler import find_compiler
from nequip.model.potential import Potential
from nequip.nn.derivatives import Prediction
from nequip.typing import Tensor

logger = logging.getLogger(__name__)

CHECKED_BATCHES = 2

# Another is made for sizes beyond those that the loops of one are good for, such as 16 or 4096 atoms.
MOST_COMPILATIONS = 8

# Of the difference from eager, relative to the norm of an array: rounding stays far below.
TOLERANCE = {"float32": 1e-3, "float64": 1e-8}

# Norms (eV, eV/Å, eV/Å³; of gradients: relative to the largest) below which arrays are not looked at closer.
NEGLIGIBLE = 1e-3

_INPUTS = tuple(name for name in AtomicGraph._fields if name not in ("labels", "field"))


class _Values(NamedTuple):
    """What is predicted, and gradients of a sum of it by the weights, by name."""

    predicted: dict[str, Tensor]
    gradients: dict[str, Tensor]


class CompiledPotential:
    """`potential` in training mode, compiled at the first batch and compared with itself on the first two.

    Derivatives are traced into one graph of operators of free sizes, and the backward pass is compiled with
    it; kernels stay the operators that they are. The weights are those of the potential, not copies. Where
    something fails the log says so once, and the potential itself runs.
    """

    def __init__(self, potential: Potential):
        self.potential = potential
        self.num_compilations = 0
        self.num_unchecked = CHECKED_BATCHES
        self._function: Callable[..., tuple[Tensor, ...]] | None = None
        self._failed = False

    @property
    def is_compiled(self) -> bool:
        """Whether calls run compiled code."""
        return self._function is not None

    def prepare(self, graph: AtomicGraph) -> None:
        """Compile and compare where that is still to do."""
        if self._failed or not self.num_unchecked or _is_too_small(graph):
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch has much to say of its own inner parts
                if self._function is None:
                    self._function = self._compile()
                self._compare(graph)
        except Exception as error:  # whatever a compiler may raise: there is a way to go on without it
            self._give_up(error)

    def __call__(self, graph: AtomicGraph) -> Prediction:
        """The prediction of the potential, differentiable by its weights."""
        if self._function is None or _is_too_small(graph):
            return self.potential(graph)
        try:
            return self._predict(graph)
        except Exception as error:
            self._give_up(error)
            return self.potential(graph)

    def _compile(self) -> Callable[..., tuple[Tensor, ...]]:
        """Compilation itself happens at the first call, for the sizes that it sees."""
        device = next(self.potential.parameters()).device.type
        options: dict[str, Any] = {"cpp_cache_precompile_headers": False}  # 20 s once, for little later
        if device == "cpu":
            options["cpp.cxx"] = (find_compiler().path,)
        traced = trace_training(self.potential)

        def backend(module: GraphModule, inputs: list[Any]) -> Any:
            if self.num_compilations == MOST_COMPILATIONS:
                raise TrainingError(f"it was compiled {MOST_COMPILATIONS} times already")
            self.num_compilations += 1
            if self.num_compilations > 1:
                logger.warning(
                    "the training step is compiled again (%d of at most %d times).",
                    *(self.num_compilations, MOST_COMPILATIONS),
                )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch._inductor.compile(module, inputs, options=options)

        return torch.compile(traced, fullgraph=True, backend=backend)

    def _predict(self, graph: AtomicGraph) -> Prediction:
        from torch._dynamo import config, mark_dynamic  # loading it takes a second

        assert self._function is not None
        inputs = _inputs(graph)
        for value in inputs:
            mark_dynamic(value, 0)
        with config.patch(optimize_ddp=False):  # which compiles in pieces, to send their gradients early
            energy, atomic_energies, *derivatives = self._function(*inputs)
        count = graph.num_graphs
        if not derivatives:
            return Prediction(energy[:count], atomic_energies, None, None, None)
        forces, stress, virial = derivatives
        return Prediction(energy[:count], atomic_energies, forces, stress[:count], virial[:count])

    def _compare(self, graph: AtomicGraph) -> None:
        """Raises ModelError where compiled and eager differ in a prediction or a gradient."""
        start = time.perf_counter()
        compiled, eager = self._values(self._predict(graph)), self._values(self.potential(graph))
        largest = max((float(value.norm()) for value in eager.gradients.values()), default=0.0)
        worst, name = max(
            (_deviation(one[key], other[key], floor), key)
            for one, other, floor in zip(compiled, eager, (NEGLIGIBLE, NEGLIGIBLE * largest), strict=True)
            for key in other
        )
        if not worst <= TOLERANCE[self.potential.card.dtype]:
            raise ModelError(f"{name} differs by {worst:.1g} of its size from eager")
        if self.num_unchecked == CHECKED_BATCHES:
            seconds = time.perf_counter() - start
            logger.info("training step compiled in %.0f s; it differs by %.0e from eager.", seconds, worst)
        self.num_unchecked -= 1

    def _values(self, prediction: Prediction) -> _Values:
        predicted = {
            name: value.nan_to_num() for name, value in prediction._asdict().items() if value is not None
        }
        weights = {name: w for name, w in self.potential.named_parameters() if w.requires_grad}
        # numbers count unequally, so that errors in two of them do not cancel
        total = torch.stack([_unequal_mean(value) for name, value in predicted.items() if name != "energy"])
        gradients = torch.autograd.grad(total.sum(), list(weights.values()), materialize_grads=True)
        return _Values(
            {name: value.detach() for name, value in predicted.items()},
            {f"the gradient by {name}": value for name, value in zip(weights, gradients, strict=True)},
        )

    def _give_up(self, error: Exception) -> None:
        self._failed, self._function = True, None
        # what torch raises then says of the first error only that there was one
        error = getattr(error, "inner_exception", error)
        reason = str(error).strip().partition("\n")[0][:200].rstrip(".:")
        logger.warning(
            "the training step could not be compiled (%s): training goes on in eager mode, which computes "
            "the same.",
            reason or type(error).__name__,
        )


def trace_training(potential: Potential) -> GraphModule:
    """The operators of `potential` in training mode as a function of graphs, with its weights inside.

    Raises:
        ModelError: for a potential whose steps depend on sizes.
    """
    potential.train()
    nothing = torch.empty(0)
    labels = Labels(nothing, nothing, nothing, nothing, nothing, nothing)

    def predict(*inputs: Tensor) -> tuple[Tensor, ...]:
        graph = AtomicGraph(**dict(zip(_INPUTS, inputs, strict=True)), labels=labels)
        return tuple(value for value in potential(graph) if value is not None)

    device, num_types = next(potential.parameters()).device.type, len(potential.card.type_names)
    return trace(predict, *[_example(sizes, num_types, device) for sizes in (FIRST, SECOND)])


def _example(sizes: Sizes, num_types: int, device: str) -> tuple[Tensor, ...]:
    drawn = example_inputs("batch", sizes, num_types, device)
    values = dict(zip(INPUTS["batch"], drawn, strict=True))
    values["transpose"] = values["neighbor"].argsort(stable=True)
    values["head"] = torch.zeros(sizes.graphs, dtype=torch.int64, device=device)
    return tuple(values[name] for name in _INPUTS)


def _inputs(graph: AtomicGraph) -> tuple[Tensor, ...]:
    """A single structure gets an empty one beside it: what has size one is compiled for that size alone."""
    if graph.num_graphs == 1:
        cell, head = torch.cat([graph.cell, torch.zeros_like(graph.cell)]), graph.head.repeat(2)
        graph = graph._replace(cell=cell, head=head)
    return tuple(getattr(graph, name) for name in _INPUTS)


def _is_too_small(graph: AtomicGraph) -> bool:
    """Sizes that would be compiled on their own, and take no time."""
    return min(graph.num_atoms, graph.num_edges) < 2


def _unequal_mean(value: Tensor) -> Tensor:
    value = value.flatten()
    return (value * torch.arange(len(value), device=value.device).cos()).mean()


def _deviation(one: Tensor, other: Tensor, floor: float) -> float:
    """Difference relative to the size of the array; that of a smaller one is taken for `floor`."""
    difference = float((one - other).norm()) / max(float(other.norm()), floor, 1e-30)
    return difference if isfinite(difference) else inf
