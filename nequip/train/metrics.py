"""Errors of a potential as streaming sums: batches of any sizes add up to one pass over all frames.

Everything is a table of (count, Σ|e|, Σe²) in float64, so that ranks can be added together too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from nequip.data.graph import AtomicGraph
from nequip.errors import ConfigError, did_you_mean
from nequip.nn.derivatives import Prediction
from nequip.train import ranks
from nequip.train.loss import Loss, TermSums
from nequip.typing import Bool, Float, Int, Tensor

QUANTITIES = (
    *("energy", "energy_per_atom", "forces", "stress", "hessian", "force_constants"),
    *("dipole", "polarizability", "born_charges"),
)


class ErrorMetrics:
    """MAE and RMSE of energy (eV), energy per atom, forces (eV/Å, by component) and stress (eV/Å³).

    And of products of the Hessian with unit vectors, and of force constants with waves (eV/Å²), whose RMSE is
    that of their elements in the mean, of dipoles (e·Å), polarizabilities (e·Å²/V) and Born charges (e), by
    component.
    Each for all frames and, where there is more than one, for each group of frames; forces also
    for each type of atom, with the mean over types. A quantity without labels has no entry.
    """

    def __init__(self, type_names: Sequence[str], group_names: Sequence[str] = ()):
        self.type_names = tuple(type_names)
        self.group_names = tuple(group_names) if len(group_names) > 1 else ()
        rows = [(quantity, "") for quantity in QUANTITIES]
        rows += [("forces", f"/{name}") for name in self.type_names]
        rows += [(quantity, f"/group={name}") for quantity in QUANTITIES for name in self.group_names]
        self._rows = {row: index for index, row in enumerate(rows)}
        self.sums: Float[Tensor, "row 3"] = torch.zeros(len(rows), 3, dtype=torch.float64)

    @torch.no_grad()
    def update(self, prediction: Prediction, graph: AtomicGraph) -> None:
        """Add the errors of one batch."""
        labels = graph.labels
        energy = prediction.energy - labels.energy
        atoms = torch.bincount(graph.batch, minlength=graph.num_graphs)
        # A missing label is NaN; a NaN that is predicted is an error that must show.
        has_energy = ~torch.isnan(labels.energy)[:, None]
        self._add("energy", energy[:, None], has_energy, labels.group)
        self._add("energy_per_atom", (energy / atoms)[:, None], has_energy, labels.group)
        if prediction.forces is not None:
            errors, present = prediction.forces - labels.forces, ~torch.isnan(labels.forces)
            self._add("forces", errors, present, labels.group[graph.batch], graph.types)
        if prediction.stress is not None:
            errors, present = prediction.stress - labels.stress, ~torch.isnan(labels.stress)
            self._add("stress", errors.flatten(1), present.flatten(1), labels.group)
        if prediction.products is not None and labels.products is not None:
            errors, present = prediction.products - labels.products, ~torch.isnan(labels.products)
            self._add("hessian", errors.flatten(1), present.flatten(1), labels.group[graph.batch])
        if prediction.responses is not None and labels.responses is not None:
            errors, present = prediction.responses - labels.responses, ~torch.isnan(labels.responses)
            self._add("force_constants", errors.flatten(1), present.flatten(1), labels.group[graph.batch])
        for quantity, group in (
            ("dipole", labels.group),
            ("polarizability", labels.group),
            ("born_charges", labels.group[graph.batch]),
        ):
            predicted, label = getattr(prediction, quantity), getattr(labels, quantity)
            if predicted is not None and label is not None:
                self._add(quantity, (predicted - label).flatten(1), ~torch.isnan(label).flatten(1), group)

    def compute(self, sums: Float[Tensor, "row 3"] | None = None) -> dict[str, float]:
        """All errors by name: "forces_mae", "forces_rmse/C", "energy_mae/group=600K", ...

        Of the batches that were added here, or of the `sums` of all processes.
        """
        sums = self.sums if sums is None else sums
        errors: dict[str, float] = {}
        for kind in ("mae", "rmse"):
            for (quantity, suffix), index in self._rows.items():
                count, absolute, square = sums[index].tolist()
                if count:
                    errors[f"{quantity}_{kind}{suffix}"] = (
                        absolute / count if kind == "mae" else math.sqrt(square / count)
                    )
            by_type = [errors.get(f"forces_{kind}/{name}") for name in self.type_names]
            present = [error for error in by_type if error is not None]
            if len(self.type_names) > 1 and present:
                errors[f"forces_{kind}/type_mean"] = sum(present) / len(present)
        return errors

    def names(self) -> Iterator[str]:
        """Every name that `compute` may give."""
        for kind in ("mae", "rmse"):
            for quantity, suffix in self._rows:
                yield f"{quantity}_{kind}{suffix}"
            if len(self.type_names) > 1:
                yield f"forces_{kind}/type_mean"

    def reset(self) -> None:
        self.sums = torch.zeros_like(self.sums)

    def _add(
        self,
        quantity: str,
        errors: Float[Tensor, "item component"],
        present: Bool[Tensor, "item component"],
        group: Int[Tensor, " item"],
        types: Int[Tensor, " item"] | None = None,
    ) -> None:
        """Sum over items and components that have a label, in all, by group and by type."""
        errors = torch.where(present, errors, 0.0).double()
        rows = torch.stack([present.double().sum(1), errors.abs().sum(1), errors.square().sum(1)], dim=1)
        rows = rows.to(self.sums.device)
        self.sums[self._rows[quantity, ""]] += rows.sum(0)
        if types is not None:
            self._add_by(types, rows, self._rows[quantity, f"/{self.type_names[0]}"])
        if self.group_names:
            self._add_by(group, rows, self._rows[quantity, f"/group={self.group_names[0]}"])

    def _add_by(self, key: Int[Tensor, " item"], rows: Float[Tensor, "item 3"], first: int) -> None:
        self.sums.index_add_(0, key.to(self.sums.device) + first, rows)


class Tally:
    """The loss and the errors of one pass over a set of frames, of which every process sees a part."""

    def __init__(self, loss: Loss, errors: ErrorMetrics):
        self._loss = loss
        self._errors = errors
        self.reset()

    def reset(self) -> None:
        zero = torch.zeros((), dtype=torch.float64)
        self._terms = {name: TermSums(zero, zero) for name in self._loss.terms}
        self._errors.reset()

    def update(self, prediction: Prediction, graph: AtomicGraph, terms: dict[str, TermSums]) -> None:
        """Add one batch."""
        for name, term in terms.items():
            total, number = self._terms[name]
            self._terms[name] = TermSums(total + term.total.detach().cpu(), number + term.num_labels.cpu())
        self._errors.update(prediction, graph)

    def compute(self, epoch: int = 0) -> dict[str, float]:
        """The loss with the weights of `epoch`, its terms, the errors: of all processes, in each of them."""
        terms, errors = self._of_all_processes()
        values = {"loss": float(self._loss.combine(terms, epoch))}
        values |= {f"loss_{name}": float(term.mean()) for name, term in terms.items()}
        return values | self._errors.compute(errors)

    def names(self) -> list[str]:
        """Every name that `compute` may give."""
        return ["loss", *(f"loss_{name}" for name in self._terms), *self._errors.names()]

    def state_dict(self) -> dict[str, Any]:
        """The sums of all processes."""
        terms, errors = self._of_all_processes()
        return {"terms": {name: tuple(term) for name, term in terms.items()}, "errors": errors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The first process goes on with what all of them had, however many those were."""
        if ranks.rank() > 0:
            self.reset()
            return
        self._terms = {name: TermSums(*term) for name, term in state["terms"].items()}
        self._errors.sums = state["errors"]

    def _of_all_processes(self) -> tuple[dict[str, TermSums], Float[Tensor, "row 3"]]:
        terms = ranks.summed(torch.tensor([*map(tuple, self._terms.values())], dtype=torch.float64))
        named = {name: TermSums(*row) for name, row in zip(self._terms, terms, strict=True)}
        return named, ranks.summed(self._errors.sums)


def check_monitor(
    key: str, monitor: str, tally: Tally, *, has_validation: bool, has_replay: bool = False
) -> None:
    """Refuse, before training, a monitored value that will never appear.

    Raises:
        ConfigError: naming the configuration `key` and the nearest value there is.
    """
    stages = ["val"] * has_validation + ["train"] + ["replay"] * has_replay
    valid = [f"{stage}/{name}" for stage in stages for name in tally.names()]
    if monitor in valid:
        return
    if not has_validation and monitor.startswith("val/"):
        raise ConfigError(
            f"{key} is {monitor!r}, but there are no validation frames: set data.split.val or data.val_file, "
            f"or {key}=train/loss."
        )
    raise ConfigError(f"{key} is {monitor!r}{did_you_mean(monitor, valid)}, which this run does not compute.")
