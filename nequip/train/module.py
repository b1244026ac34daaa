"""One potential in training: a step, a validation, and all that must survive an interruption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from nequip.config.schema import TrainConfig
from nequip.data.graph import AtomicGraph
from nequip.errors import CheckpointError
from nequip.model.card import ModelCard
from nequip.model.potential import Potential
from nequip.nn.derivatives import Prediction
from nequip.train import ranks
from nequip.train.checkpointing import check_same
from nequip.train.compiled import CompiledPotential
from nequip.train.denoising import Denoising, NoiseWeight, supervised
from nequip.train.ema import WeightAverage
from nequip.train.failures import FiniteSteps
from nequip.train.freezing import freeze
from nequip.train.loss import Loss, TermSums, share_of, totals
from nequip.train.metrics import ErrorMetrics, Tally
from nequip.train.optimization import build_optimizer, build_scheduler
from nequip.train.prediction import Asked, predict
from nequip.train.suitability import check_suitable
from nequip.typing import Float, Tensor


class Position(NamedTuple):
    """Where training stands: `batch` batches of `epoch` are done."""

    epoch: int = 0
    batch: int = 0


class StepResult(NamedTuple):
    """What one batch gave, without its graph of derivatives."""

    prediction: Prediction
    graph: AtomicGraph
    terms: dict[str, TermSums]  # of this process
    sums: ranks.Sum  # of the terms, over all processes

    def whole(self) -> dict[str, TermSums]:
        """The terms of all processes."""
        return {name: TermSums(*row) for name, row in zip(self.terms, self.sums.result(), strict=True)}


class PotentialModule(pl.LightningModule):
    """Trains `potential`; validates its moving average where there is one.

    `record` holds the numbers of the epoch that has just ended, and the callbacks read it.
    """

    def __init__(
        self,
        potential: Potential,
        config: TrainConfig,
        *,
        seed: int = 0,
        groups: Sequence[str] = (),
        max_epochs: int = 1,
    ):
        """`max_epochs` is where the weight of denoising has fallen to zero."""
        super().__init__()
        type_names = potential.card.type_names
        self.config = config
        self.seed = seed
        noise = None if config.dens is None else NoiseWeight(config.dens, max_epochs)
        self.loss = Loss(config.loss, type_names, noise)
        self.denoising = None if config.dens is None else Denoising(potential, config.dens, seed)
        check_suitable(potential, self.loss, config)
        potential.predict_derivatives = self.loss.needs_derivatives
        potential.predict_born_charges = "born_charges" in self.loss.terms
        freeze(potential, config.freeze)
        self.potential = potential
        self.compiled = CompiledPotential(potential) if config.compile else None
        self.average = None if config.ema_decay is None else WeightAverage(potential, config.ema_decay)
        self.train_tally = Tally(self.loss, ErrorMetrics(type_names, groups))
        self.val_tally = Tally(self.loss, ErrorMetrics(type_names, groups))
        self.replay_tally = Tally(self.loss, ErrorMetrics(type_names))  # of the replay frames held out
        self.finite = FiniteSteps(config.not_finite)
        self.position = Position()
        self.record: dict[str, float] = {}
        self.step_record: dict[str, float] = {}
        self.current_graph: AtomicGraph | None = None  # named when memory runs out
        self._scheduler: LRScheduler | None = None
        self._step: StepResult | None = None
        self._resumed: dict[str, Any] | None = None

    @property
    def validated(self) -> Potential:
        """The potential that validation runs on."""
        return self.potential if self.average is None else self.average.potential

    @property
    def lr(self) -> float:
        return self.trainer.optimizers[0].param_groups[0]["lr"]

    @property
    def may_leave_weights_out(self) -> bool:
        """Whether some weights may have no part in a batch.

        Those of a readout that no frame of it asks for, or the shifts where the loss has no energies.
        """
        return len(self.potential.heads) > 1 or "energy" not in self.loss.terms

    def configure_optimizers(self) -> Optimizer:
        optimizer = build_optimizer(self.config.optimizer, self._trained())
        # Lightning steps a scheduler before or after the checkpoint of an epoch, depending on its
        # kind; here it is stepped by `step_scheduler` alone, so that a resumed run cannot differ.
        if self.config.scheduler is not None:
            self._scheduler = build_scheduler(self.config.scheduler, optimizer)
            if self._resumed is not None and self._resumed["scheduler"] is not None:
                self._scheduler.load_state_dict(self._resumed["scheduler"])
        return optimizer

    def _trained(self) -> list[torch.nn.Parameter]:
        """What a step changes: weights of the potential, and of what trains it beside it."""
        beside = [] if self.denoising is None else self.denoising.parameters()
        return [*self.potential.parameters(), *beside]

    def on_train_start(self) -> None:
        self._resumed = None

    def on_train_epoch_start(self) -> None:
        # Not called where a run goes on in mid-epoch.
        self.train_tally.reset()
        self.finite.skipped = 0
        self.record = {}
        self.trainer.datamodule.start_epoch(self.current_epoch)
        lr = self.loss.lr(self.current_epoch)
        if lr is not None:
            for group in self.trainer.optimizers[0].param_groups:
                group["lr"] = lr

    def on_train_batch_start(self, batch: AtomicGraph, batch_idx: int) -> None:
        self.current_graph = batch
        self.finite.begin()
        if self.compiled is not None and not any(self._asked(self.current_epoch)):
            self.compiled.prepare(batch)
        # Random numbers depend on nothing that happened before, and differ between processes.
        place = (self.seed, self.current_epoch, batch_idx, ranks.rank())
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def training_step(self, batch: AtomicGraph, batch_idx: int) -> Float[Tensor, ""]:
        """The loss of this process; sums over all of them travel while it computes."""
        labelled = batch if self.denoising is None else supervised(batch)
        num_labels = ranks.Sum(self.loss.num_labels(labelled))
        prediction = self._predict(batch)
        terms = self.loss(prediction, labelled)
        sums = ranks.Sum(totals(terms))
        detached = Prediction(*(None if value is None else value.detach() for value in prediction))
        self._step = StepResult(detached, labelled, terms, sums)
        return self.loss.combine(share_of(terms, num_labels.result()), self.current_epoch)

    def _predict(self, batch: AtomicGraph) -> Prediction:
        asked = self._asked(self.current_epoch)
        if self.denoising is None and not any(asked):
            return (self.compiled or self.potential)(batch)
        return predict(self.potential, batch, asked, self.denoising)

    def _asked(self, epoch: int) -> Asked:
        return Asked(self.loss.needs_products(epoch), self.loss.needs_responses(epoch))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        gradients = [weight.grad for weight in self._trained() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        assert self._step is not None
        position = Position(self.current_epoch, self.trainer.fit_loop.batch_idx)
        loss = self.loss.combine(self._step.whole(), self.current_epoch)
        for value, what in ((loss, "loss"), (norm, "gradient")):
            self.finite.check(value, what, self._step.graph, position, self.trainer.default_root_dir)
        if self.finite.skips:
            # Every optimizer passes over weights without a gradient: no momentum, no decay.
            optimizer.zero_grad(set_to_none=True)
        self.step_record["grad_norm"] = float(norm)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Everything that a step changes is changed here, before any callback may save it."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        assert self._step is not None
        prediction, graph, terms, _ = self._step
        whole = self._step.whole()
        if not self.finite.skips:
            if self.average is not None:
                self.average.update(self.potential)
            self.train_tally.update(prediction, graph, terms)
        self.step_record |= {"loss": float(self.loss.combine(whole, epoch)), "lr": self.lr}
        self.step_record |= {f"loss_{name}": float(term.mean()) for name, term in whole.items()}
        self._step = None
        if self.config.scheduler is not None and self.config.scheduler.interval == "step":
            self.step_scheduler()
        self.position = Position(epoch, batch_idx + 1)

    def on_train_epoch_end(self) -> None:
        # Runs after the ordinary callbacks and before those that save.
        self.position = Position(self.current_epoch + 1, 0)

    def on_validation_epoch_start(self) -> None:
        self.val_tally.reset()
        self.replay_tally.reset()

    def validation_step(self, batch: AtomicGraph, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.current_graph = batch
        prediction = predict(self.validated, batch, self._asked(self.loss.judging_epoch(self.current_epoch)))
        tally = self.val_tally if dataloader_idx == 0 else self.replay_tally
        tally.update(prediction, batch, self.loss(prediction, batch))

    def on_validation_epoch_end(self) -> None:
        judging = self.loss.judging_epoch(self.current_epoch)
        errors = {f"val/{name}": value for name, value in self.val_tally.compute(judging).items()}
        if self.trainer.datamodule.replay_val_set is not None:
            replay = self.replay_tally.compute(judging)
            errors |= {f"replay/{name}": value for name, value in replay.items()}
        self.record |= errors
        self.log_dict(errors, batch_size=1, logger=False)  # for third-party callbacks that monitor

    def step_scheduler(self) -> None:
        """One step of the learning-rate schedule; by plateau only where there is a new value.

        None where a stage of the loss has set the learning rate.
        """
        if self.loss.lr(self.current_epoch) is not None:
            return
        if isinstance(self._scheduler, ReduceLROnPlateau):
            assert self.config.scheduler is not None
            if self.loss.is_judged_anew(self.current_epoch):
                self._scheduler.best, self._scheduler.num_bad_epochs = math.inf, 0
            if self.config.scheduler.monitor in self.record:
                self._scheduler.step(self.record[self.config.scheduler.monitor])
        elif self._scheduler is not None:
            self._scheduler.step()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["training"] = {
            "model": _identity(self.potential.card),
            "train": _state_bearing(self.config),
            "data": self.trainer.datamodule.identity(),
            "position": tuple(self.position),
            "tally": self.train_tally.state_dict(),
            "skipped": self.finite.skipped,
            "scheduler": None if self._scheduler is None else self._scheduler.state_dict(),
        }

    def check_same(self, saved: dict[str, Any]) -> None:
        """Raises CheckpointError unless the state `saved` is one of this potential, trained in this way."""
        check_same("model", saved["model"], _identity(self.potential.card))
        check_same("training", saved["train"], _state_bearing(self.config))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raises CheckpointError for the state of another model, or of a pass over other data."""
        self._resumed = checkpoint["training"]
        self.position = Position(*self._resumed["position"])
        self.check_same(self._resumed)
        if self.position.batch and self._resumed["data"] != self.trainer.datamodule.identity():
            raise CheckpointError(
                "the checkpoint was saved in mid-epoch with other frames, batches or seed: give the same "
                "data to go on with this epoch, or resume from best.ckpt, the end of an epoch."
            )
        self.train_tally.load_state_dict(self._resumed["tally"])
        self.finite.skipped = self._resumed.get("skipped", 0)  # older checkpoints have none
        self.trainer.datamodule.start_epoch(*self.position)


def _identity(card: ModelCard) -> dict[str, Any]:
    """What the weights of a checkpoint must fit."""
    return card.model_dump(mode="json", exclude={"training", "versions"})


def _state_bearing(config: TrainConfig) -> dict[str, Any]:
    """What the state of the optimizer, the schedule and the average of a checkpoint must fit."""
    return config.model_dump(mode="json", include={"optimizer", "scheduler", "ema_decay", "freeze", "dens"})
