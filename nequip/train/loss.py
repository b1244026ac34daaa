"""The training loss: a weighted sum of terms, each a mean over the labels that are present.

Every term is kept as a sum and a count, so that batches, epochs and ranks add up exactly:
`loss = Σ_terms weight · Σ ℓ(prediction - label) / (number of labels)`.
What a term compares is a function in `TERMS` that returns `Residuals`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import nn

from nequip.config.schema import LossConfig, LossStage, LossTerm
from nequip.data.graph import AtomicGraph
from nequip.errors import ConfigError, did_you_mean
from nequip.nn.derivatives import Prediction
from nequip.train import ranks
from nequip.typing import Bool, Float, Int, Tensor

# Huber's delta shrinks where the reference force is large, eV/Å (MACE-MP-0, arXiv:2401.00096).
STRATA = (100.0, 200.0, 300.0)
STRATUM_SCALES = (1.0, 0.7, 0.4, 0.1)


class TermSums(NamedTuple):
    """A term before its mean is taken: Σ ℓ over the labels present, and how many there are."""

    total: Float[Tensor, ""]
    num_labels: Float[Tensor, ""]

    def mean(self) -> Float[Tensor, ""]:
        """Zero where there is no label."""
        return self.total / self.num_labels.clamp(min=1)


class Residuals(NamedTuple):
    """Prediction minus label, element by element; zero, with no gradient, where a label is missing."""

    value: Float[Tensor, ...]
    present: Bool[Tensor, ...]
    weight: Float[Tensor, ...]  # of the frame and the type, broadcasts against value
    delta_scale: Float[Tensor, ...]  # of Huber's delta, broadcasts against value


class Loss(nn.Module):
    """The terms that `config` names, and the weight of each at every epoch.

    Raises:
        ConfigError: for type weights of unknown types, options that a term does not have, and
            stages out of order or of a term that is switched off.
    """

    def __init__(
        self, config: LossConfig, type_names: tuple[str, ...], noise: Callable[[int], float] | None = None
    ):
        """`noise` is the weight of the errors of displacements at each epoch, where these are predicted."""
        super().__init__()
        self._noise = noise
        terms = {name: getattr(config, name) for name in TERMS if name != "noise"}
        if noise is not None:
            terms["noise"] = LossTerm(kind="norm")
        self.terms: dict[str, LossTerm] = {name: term for name, term in terms.items() if term is not None}
        for name, term in self.terms.items():
            _check_term(name, term, type_names)
        _check_schedule(config.schedule, self.terms)
        self.schedule = config.schedule
        weights = self.terms["forces"].type_weights if "forces" in self.terms else {}
        by_type = torch.tensor([weights.get(name, 1.0) for name in type_names], dtype=torch.float64)
        self.register_buffer("type_weights", by_type, persistent=False)
        self.type_weights: Tensor

    @property
    def needs_derivatives(self) -> bool:
        return "forces" in self.terms or "stress" in self.terms

    @property
    def needs_field(self) -> bool:
        """Whether it compares what an electric field does."""
        return not self.terms.keys().isdisjoint(("dipole", "polarizability", "born_charges"))

    def needs_products(self, epoch: int) -> bool:
        """Whether products of Hessians have a weight at `epoch`."""
        return self._counts("hessian", epoch)

    def needs_responses(self, epoch: int) -> bool:
        """Whether responses to waves have a weight at `epoch`."""
        return self._counts("force_constants", epoch)

    def _counts(self, name: str, epoch: int) -> bool:
        return name in self.terms and self.weights(epoch)[name] > 0

    def forward(self, prediction: Prediction, graph: AtomicGraph) -> dict[str, TermSums]:
        """Sum and count of every term over one batch."""
        return {
            name: _sum(TERMS[name](prediction, graph, term, self.type_weights), term)
            for name, term in self.terms.items()
        }

    def num_labels(self, graph: AtomicGraph) -> Float[Tensor, " term"]:
        """How many labels each term has in a batch, known before anything is predicted."""
        none = torch.zeros((), dtype=torch.int64, device=graph.positions.device)
        labels = [getattr(graph.labels, LABELS.get(name, name)) for name in self.terms]
        counts = [
            none if label is None else _num_labels(~torch.isnan(label), term)
            for label, term in zip(labels, self.terms.values(), strict=True)
        ]
        return torch.stack(counts).to(torch.float64)

    def weights(self, epoch: int) -> dict[str, float]:
        """Weight of each term at `epoch`."""
        weights = {name: term.weight for name, term in self.terms.items()}
        start = 0
        for stage in self.schedule:
            if epoch >= stage.epoch:
                weights |= {str(name): weight for name, weight in stage.weights.items()}
                start = stage.epoch
                continue
            if stage.interpolation == "linear":
                share = (epoch - start) / (stage.epoch - start)
                for name, target in stage.weights.items():
                    weights[name] += share * (target - weights[name])
            break
        if self._noise is not None:
            weights["noise"] = self._noise(epoch)
        return weights

    def lr(self, epoch: int) -> float | None:
        """The learning rate that the last stage with one holds at `epoch`; None: that of the scheduler."""
        rates = [stage.lr for stage in self.schedule if epoch >= stage.epoch and stage.lr is not None]
        return rates[-1] if rates else None

    def judging_epoch(self, epoch: int) -> int:
        """The epoch whose weights validation takes at `epoch`: the same as long as losses can be compared.

        It is the beginning of the stage under way, or the end of the slide under way.
        """
        judging = 0
        for stage in self.schedule:
            if epoch < stage.epoch and stage.interpolation == "step":
                break
            judging = stage.epoch
            if epoch < stage.epoch:
                break
        return judging

    def is_judged_anew(self, epoch: int) -> bool:
        """Whether validation losses of `epoch` cannot be compared with those before it."""
        return epoch > 0 and self.judging_epoch(epoch) != self.judging_epoch(epoch - 1)

    def combine(self, sums: Mapping[str, TermSums], epoch: int = 0) -> Float[Tensor, ""]:
        """The weighted sum of the means, with the weights of `epoch`."""
        weights = self.weights(epoch)
        return torch.stack([weights[name] * term.mean() for name, term in sums.items()]).sum()


def totals(terms: Mapping[str, TermSums]) -> Float[Tensor, "term 2"]:
    """The terms as one array, to be added to those of other batches or processes."""
    return torch.stack([torch.stack(tuple(term)) for term in terms.values()])


def share_of(part: Mapping[str, TermSums], num_labels: Float[Tensor, " term"]) -> dict[str, TermSums]:
    """Terms whose mean over processes, which is how DDP adds gradients, is that of the whole batch.

    Args:
        num_labels: of all processes.
    """
    size = ranks.world_size()
    return {
        name: TermSums(size * term.total, count)
        for (name, term), count in zip(part.items(), num_labels.unbind(), strict=True)
    }


def _sum(residuals: Residuals, term: LossTerm) -> TermSums:
    value, delta = residuals.value, term.delta * residuals.delta_scale
    if term.kind == "mse":
        loss = value.square()
    elif term.kind == "mae":
        loss = value.abs()
    elif term.kind == "norm":
        loss = torch.linalg.vector_norm(value, dim=-1, keepdim=True)
    else:
        size = value.abs()
        loss = torch.where(size < delta, 0.5 * size.square(), delta * (size - 0.5 * delta))
    return TermSums((residuals.weight * loss).sum(), _num_labels(residuals.present, term).to(value.dtype))


def _num_labels(present: Bool[Tensor, ...], term: LossTerm) -> Int[Tensor, ""]:
    """Numbers, or vectors where their norms are what counts."""
    return (present.all(-1) if term.kind == "norm" else present).sum()


def _energy(
    prediction: Prediction, graph: AtomicGraph, term: LossTerm, type_weights: Float[Tensor, " type"]
) -> Residuals:
    value, present = _difference(prediction.energy, graph.labels.energy)
    if term.per_atom:
        value = value / torch.bincount(graph.batch, minlength=graph.num_graphs)
    return Residuals(value, present, graph.labels.weight, torch.ones_like(value))


def _forces(
    prediction: Prediction, graph: AtomicGraph, term: LossTerm, type_weights: Float[Tensor, " type"]
) -> Residuals:
    labels = graph.labels
    value, present = _difference(_required(prediction.forces), labels.forces)
    weight = (labels.weight[graph.batch] * type_weights[graph.types])[:, None]
    scale = torch.ones_like(weight)
    if term.kind == "stratified_huber":
        norm = torch.linalg.vector_norm(labels.forces, dim=-1, keepdim=True)
        stratum = torch.bucketize(norm, norm.new_tensor(STRATA), right=True)
        scale = norm.new_tensor(STRATUM_SCALES)[stratum.clamp(max=len(STRATA))]
    return Residuals(value, present, weight, scale)


def _stress(
    prediction: Prediction, graph: AtomicGraph, term: LossTerm, type_weights: Float[Tensor, " type"]
) -> Residuals:
    value, present = _difference(_required(prediction.stress), graph.labels.stress)
    return Residuals(value, present, graph.labels.weight[:, None, None], torch.ones_like(value))


def _hessian(
    prediction: Prediction, graph: AtomicGraph, term: LossTerm, type_weights: Float[Tensor, " type"]
) -> Residuals:
    return _optional(prediction, prediction.products, graph.labels.products, _of_atoms(graph))


def _force_constants(
    prediction: Prediction, graph: AtomicGraph, term: LossTerm, type_weights: Float[Tensor, " type"]
) -> Residuals:
    return _optional(prediction, prediction.responses, graph.labels.responses, _of_atoms(graph))


def _dipole(
    prediction: Prediction, graph: AtomicGraph, term: LossTerm, type_weights: Float[Tensor, " type"]
) -> Residuals:
    return _optional(prediction, prediction.dipole, graph.labels.dipole, graph.labels.weight)


def _polarizability(
    prediction: Prediction, graph: AtomicGraph, term: LossTerm, type_weights: Float[Tensor, " type"]
) -> Residuals:
    return _optional(prediction, prediction.polarizability, graph.labels.polarizability, graph.labels.weight)


def _born_charges(
    prediction: Prediction, graph: AtomicGraph, term: LossTerm, type_weights: Float[Tensor, " type"]
) -> Residuals:
    return _optional(prediction, prediction.born_charges, graph.labels.born_charges, _of_atoms(graph))


def _noise(
    prediction: Prediction, graph: AtomicGraph, term: LossTerm, type_weights: Float[Tensor, " type"]
) -> Residuals:
    return _optional(prediction, prediction.noise, graph.labels.noise, _of_atoms(graph))


def _optional(
    prediction: Prediction, predicted: Tensor | None, label: Tensor | None, weight: Float[Tensor, " row"]
) -> Residuals:
    """Of what may not be asked for, or have no label in a whole batch."""
    if predicted is None or label is None:
        return _nothing(prediction)
    value, present = _difference(predicted.flatten(1), label.flatten(1))
    return Residuals(value, present, weight[:, None], torch.ones_like(value))


def _of_atoms(graph: AtomicGraph) -> Float[Tensor, " atom"]:
    """The weight of the frame that an atom belongs to."""
    return graph.labels.weight[graph.batch]


def _nothing(prediction: Prediction) -> Residuals:
    """Of a term that was not asked for."""
    none = prediction.energy.new_zeros(0, 3)
    return Residuals(none, none.bool(), none[:, :1], none)


TERMS: dict[str, Callable[[Prediction, AtomicGraph, LossTerm, Tensor], Residuals]] = {
    "energy": _energy,
    "forces": _forces,
    "stress": _stress,
    "hessian": _hessian,
    "force_constants": _force_constants,
    "dipole": _dipole,
    "polarizability": _polarizability,
    "born_charges": _born_charges,
    "noise": _noise,
}


# Names of labels that are not called as the terms are.
LABELS = {"hessian": "products", "force_constants": "responses"}


def _difference(predicted: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    # `where` before any power or norm: the gradient of a NaN times zero would be NaN.
    present = ~torch.isnan(label)
    return torch.where(present, predicted - label, 0.0), present


def _required(value: Tensor | None) -> Tensor:
    assert value is not None, "the potential must predict derivatives when the loss has forces or stress"
    return value


def _check_term(name: str, term: LossTerm, type_names: tuple[str, ...]) -> None:
    special = term.kind == "stratified_huber" or (term.kind == "norm" and name != "noise")
    if name != "forces" and (special or term.type_weights):
        option = "type_weights" if term.type_weights else f"kind: {term.kind}"
        raise ConfigError(f"train.loss.{name} cannot have {option}: it is for train.loss.forces only.")
    for unknown in [key for key in term.type_weights if key not in type_names]:
        raise ConfigError(
            f"train.loss.{name}.type_weights names {unknown!r}{did_you_mean(unknown, type_names)}, "
            f"but the types of this model are {', '.join(type_names)}."
        )


def _check_schedule(schedule: tuple[LossStage, ...], terms: Mapping[str, LossTerm]) -> None:
    epochs = [stage.epoch for stage in schedule]
    if any(late <= early for early, late in itertools.pairwise(epochs)):
        raise ConfigError(f"train.loss.schedule must list its epochs in ascending order, not {epochs}.")
    for stage in schedule:
        for name in stage.weights:
            if name not in terms:
                raise ConfigError(
                    f"train.loss.schedule weights {name!r} from epoch {stage.epoch}, but train.loss.{name} "
                    "is switched off: give it a term (a weight of 0 will do) or leave it out."
                )
