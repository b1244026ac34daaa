"""The trainer of one run: what is called after each epoch, in which order, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.strategies import DDPStrategy, Strategy

from nequip.config.schema import RunConfig, TrainerConfig
from nequip.data.replay import ReplayDataset
from nequip.errors import ConfigError
from nequip.model.card import TrainingRecord
from nequip.model.potential import Potential
from nequip.train import ranks, slurm
from nequip.train.callbacks.checkpoints import Checkpoints
from nequip.train.callbacks.epoch_schedule import EarlyStopping, StepScheduler
from nequip.train.callbacks.history import History
from nequip.train.callbacks.progress import build_progress
from nequip.train.callbacks.stop import Requeued, StopBetweenBatches, StopRequested, TrainingInterrupted
from nequip.train.callbacks.throughput import Throughput
from nequip.train.checkpointing import AtomicCheckpointIO, load_checkpoint
from nequip.train.datamodule import GraphDataModule
from nequip.train.drawing import with_draws
from nequip.train.failures import is_out_of_memory, out_of_memory
from nequip.train.loggers import build_loggers, close_loggers
from nequip.train.metrics import check_monitor
from nequip.train.module import PotentialModule
from nequip.train.prepare import PreparedData
from nequip.train.processes import LocalProcesses, ProcessLost, is_loss_of_process

Stopped = Literal["max_epochs", "early_stopping", "max_time"]

# Names of strategies that several processes train with; the last is for models that leave weights out.
DDP = ("auto", "ddp", "ddp_find_unused_parameters_true")


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
        self.module = PotentialModule(
            potential,
            config.train,
            seed=config.seed,
            groups=data.group_names,
            max_epochs=config.trainer.max_epochs,
        )
        data = with_draws(data, config)
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
        self._config = config
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
        processes = LocalProcesses(self._trainer, self._config)
        try:
            with processes, self._stop.listening():
                self._trainer.fit(self.module, datamodule=self.datamodule, ckpt_path=checkpoint)
        except StopRequested as request:
            if request.reason == "interrupt":
                ranks.raise_together(self._interrupted())
            if request.reason == "requeue":
                ranks.raise_together(self._requeued())
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
            if self._trainer.world_size > 1 and is_loss_of_process(error):
                raise self._lost(processes.what_happened) from error
            raise
        finally:
            self.datamodule.close()
            close_loggers(self._trainer.loggers)
        return "early_stopping" if self._early_stopping and self._early_stopping.reason else "max_epochs"

    def _interrupted(self) -> TrainingInterrupted:
        if not self._last.is_file():
            return TrainingInterrupted("training was interrupted before anything was saved.")
        return TrainingInterrupted(f"training was interrupted; {self._how_to_go_on()}")

    def _requeued(self) -> Requeued:
        job = slurm.job_id()
        assert job is not None
        problem = slurm.requeue(job) if ranks.rank() == 0 else ""
        if problem:
            return Requeued(f"job {job} could not be queued again ({problem}); {self._how_to_go_on()}")
        return Requeued(f"job {job} is queued again, to go on from {self._last}.")

    def _lost(self, what_happened: str) -> ProcessLost:
        if not self._last.is_file():
            return ProcessLost(f"{what_happened}, before anything was saved: start the run again.")
        return ProcessLost(f"{what_happened}, and the run stops; {self._how_to_go_on()}")

    @property
    def _last(self) -> Path:
        return self.output_dir / "last.ckpt"

    def _how_to_go_on(self) -> str:
        epoch, batch = load_checkpoint(self._last)["training"]["position"]
        return (
            f"{self._last} holds its state after {epoch} epochs and {batch} batches: run the same command "
            "with resume=auto to go on from there."
        )

    def _build_trainer(self, config: RunConfig, callbacks: Sequence[pl.Callback]) -> pl.Trainer:
        trainer, train = config.trainer, config.train
        # In this order: numbers of the epoch, then what reads them, then what saves the outcome.
        ours: list[pl.Callback] = [Throughput(), History(self.output_dir, trainer.logging.every_n_steps)]
        ours += build_progress(trainer.logging) if ranks.rank() == 0 else []
        ours += [] if train.scheduler is None else [StepScheduler(train.scheduler)]
        ours += [] if self._early_stopping is None else [self._early_stopping]
        ours += [*callbacks, self.checkpoints, self._stop]
        cluster = slurm.environment()
        try:
            built = pl.Trainer(
                accelerator=trainer.accelerator,
                devices=trainer.devices,
                num_nodes=trainer.num_nodes,
                strategy=_strategy(trainer, find_unused=self.module.may_leave_weights_out),
                max_epochs=trainer.max_epochs,
                check_val_every_n_epoch=trainer.check_val_every_n_epoch,
                gradient_clip_val=train.gradient_clip,
                callbacks=ours,
                logger=build_loggers(trainer.logging, self.output_dir),
                plugins=[AtomicCheckpointIO(), *([cluster] if cluster else [])],
                default_root_dir=self.output_dir,
                num_sanity_val_steps=0,
                inference_mode=False,  # forces are derivatives, in validation too
                use_distributed_sampler=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        except (MisconfigurationException, ValueError) as error:
            raise ConfigError(f"trainer: {error}") from error
        if cluster and cluster.world_size() != built.world_size:
            raise ConfigError(
                f"trainer: srun has started {cluster.world_size()} tasks, but {trainer.devices} devices on "
                f"{trainer.num_nodes} nodes are asked for: take trainer=slurm, and sbatch --ntasks-per-node."
            )
        if built.world_size > 1 and trainer.strategy not in DDP:
            raise ConfigError(
                f"trainer.strategy is {trainer.strategy!r}, but several processes train with ddp: "
                "take trainer=ddp."
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


def _strategy(config: TrainerConfig, *, find_unused: bool) -> Strategy | str:
    """DDP for several processes, which adds their gradients up while they are still being computed."""
    if config.strategy not in DDP:
        return config.strategy
    if config.devices == 1 and config.num_nodes == 1:
        return "auto"
    # Buffers are the same everywhere from the start.
    return DDPStrategy(
        find_unused_parameters=find_unused or config.strategy == DDP[-1],
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
    )


def parse_duration(text: str | None) -> float | None:
    """Seconds of `DD:HH:MM:SS`."""
    if text is None:
        return None
    days, hours, minutes, seconds = map(int, text.split(":"))
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
