"""The trainer of one run: what is called after each epoch, in which order, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException

from nequip.config.schema import RunConfig
from nequip.data.replay import ReplayDataset
from nequip.errors import ConfigError
from nequip.model.card import TrainingRecord
from nequip.model.potential import Potential
from nequip.train.callbacks.checkpoints import Checkpoints
from nequip.train.callbacks.epoch_schedule import EarlyStopping, StepScheduler
from nequip.train.callbacks.history import History
from nequip.train.callbacks.progress import build_progress
from nequip.train.callbacks.stop import StopBetweenBatches, StopRequested, TrainingInterrupted
from nequip.train.checkpointing import AtomicCheckpointIO, load_checkpoint
from nequip.train.datamodule import GraphDataModule
from nequip.train.failures import is_out_of_memory, out_of_memory
from nequip.train.loggers import build_loggers, close_loggers
from nequip.train.metrics import check_monitor
from nequip.train.module import PotentialModule
from nequip.train.prepare import PreparedData

Stopped = Literal["max_epochs", "early_stopping", "max_time"]


class Fit:
    """`potential` ready to be trained on `data`.

    Raises:
        ConfigError: for values that only the data or the machine can prove wrong.
    """

    def __init__(
        self,
        potential: Potential,
        data: PreparedData,
        config: RunConfig,
        callbacks: Sequence[pl.Callback] = (),
    ):
        self.output_dir = Path(config.output_dir)
        self.module = PotentialModule(potential, config.train, seed=config.seed, groups=data.group_names)
        replay = data.replay
        self.datamodule = GraphDataModule(
            data.train if replay is None else ReplayDataset(data.train, replay.train, replay.ratio),
            data.val,
            config.data.batch,
            replay_val=None if replay is None else replay.val,
            seed=config.seed,
            num_workers=config.data.num_workers,
        )
        self._check_monitors(config)
        about = {"data": config.data.file, "num_train": len(data.train), "num_val": len(data.val)}
        record = (potential.card.training or TrainingRecord()).model_copy(update=about)
        self.checkpoints = Checkpoints(self.output_dir, config.train.monitor, record)
        self._stop = StopBetweenBatches(self.checkpoints, parse_duration(config.trainer.max_time))
        early = config.train.early_stopping
        self._early_stopping = None if early is None else EarlyStopping(early)
        self._trainer = self._build_trainer(config, callbacks)

    def check(self, checkpoint: Path) -> None:
        """Raises CheckpointError for a state that cannot be read or is not of this potential.

        Lightning reads it late, when the inputs of the run and the loggers' files are written.
        """
        state = load_checkpoint(checkpoint)["training"]
        self.module.check_same(state)
        done, wanted = state["position"][0], self._trainer.max_epochs
        if wanted is not None and done > wanted:
            raise ConfigError(
                f"{checkpoint} has done {done} epochs, and trainer.max_epochs is {wanted}: ask for more."
            )

    def run(self, checkpoint: Path | None = None) -> Stopped:
        """Train to the end, from `checkpoint` on where one is given.

        Raises:
            TrainingInterrupted: after Ctrl-C, when the state is saved.
            TrainingError: for a loss that is not finite, or when memory ran out.
            CheckpointError: for a checkpoint that cannot be read or does not fit, and for a full disk.
        """
        if checkpoint is not None:
            self.check(checkpoint)
        try:
            with self._stop.listening():
                self._trainer.fit(self.module, datamodule=self.datamodule, ckpt_path=checkpoint)
        except StopRequested as request:
            if request.reason == "interrupt":
                raise self._interrupted() from None
            return "max_time"
        except SystemExit as error:
            # Lightning's answer to a KeyboardInterrupt.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise self._interrupted() from None
            raise
        except Exception as error:
            if is_out_of_memory(error):
                position = (self._trainer.current_epoch, self._trainer.fit_loop.batch_idx)
                raise out_of_memory(self.module.current_graph, position) from error
            raise
        finally:
            self.datamodule.close()
            close_loggers(self._trainer.loggers)
        return "early_stopping" if self._early_stopping and self._early_stopping.reason else "max_epochs"

    def _interrupted(self) -> TrainingInterrupted:
        last = self.output_dir / "last.ckpt"
        if not last.is_file():
            return TrainingInterrupted("training was interrupted before anything was saved.")
        epoch, batch = load_checkpoint(last)["training"]["position"]
        return TrainingInterrupted(
            f"training was interrupted; {last} holds its state after {epoch} epochs and {batch} batches: run "
            "the same command with resume=auto to go on from there."
        )

    def _build_trainer(self, config: RunConfig, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
        trainer, train = config.trainer, config.train
        # In this order: numbers of the epoch, then what reads them, then what saves the outcome.
        ours: list[pl.Callback] = [History(self.output_dir, trainer.logging.every_n_steps)]
        ours += build_progress(trainer.logging)
        ours += [] if train.scheduler is None else [StepScheduler(train.scheduler)]
        ours += [] if self._early_stopping is None else [self._early_stopping]
        ours += [*callbacks, self.checkpoints, self._stop]
        try:
            built = pl.Trainer(
                accelerator=trainer.accelerator,
                devices=trainer.devices,
                num_nodes=trainer.num_nodes,
                strategy=trainer.strategy,
                max_epochs=trainer.max_epochs,
                check_val_every_n_epoch=trainer.check_val_every_n_epoch,
                gradient_clip_val=train.gradient_clip,
                callbacks=ours,
                logger=build_loggers(trainer.logging, self.output_dir),
                plugins=[AtomicCheckpointIO()],
                default_root_dir=self.output_dir,
                num_sanity_val_steps=0,
                inference_mode=False,  # forces are derivatives, in validation too
                use_distributed_sampler=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        except (MisconfigurationException, ValueError) as error:
            raise ConfigError(f"trainer: {error}") from error
        if built.world_size > 1:
            # Losses, metrics and decisions are not yet summed over ranks.
            raise ConfigError(
                f"trainer: {built.world_size} processes are asked for, but training runs in one: "
                "set trainer.devices=1 trainer.num_nodes=1."
            )
        return built

    def _check_monitors(self, config: RunConfig) -> None:
        train = config.train
        monitors = {"train.monitor": train.monitor}
        if train.early_stopping is not None:
            monitors["train.early_stopping.monitor"] = train.early_stopping.monitor
        if train.scheduler is not None and train.scheduler.name == "ReduceLROnPlateau":
            monitors["train.scheduler.monitor"] = train.scheduler.monitor
        for key, monitor in monitors.items():
            check_monitor(
                key,
                monitor,
                self.module.val_tally,
                has_validation=self.datamodule.val_set is not None,
                has_replay=self.datamodule.replay_val_set is not None,
            )
        if config.trainer.check_val_every_n_epoch > config.trainer.max_epochs:
            raise ConfigError(
                f"trainer.check_val_every_n_epoch={config.trainer.check_val_every_n_epoch} is more than "
                f"trainer.max_epochs={config.trainer.max_epochs}: no epoch would be validated."
            )


def parse_duration(text: str | None) -> float | None:
    """Seconds of `DD:HH:MM:SS`."""
    if text is None:
        return None
    days, hours, minutes, seconds = map(int, text.split(":"))
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
