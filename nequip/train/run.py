"""One training run, from its configuration to the files it leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nequip.config.compose import to_yaml
from nequip.config.schema import PretrainedModel, ReplayConfig, RunConfig
from nequip.data.dataset import FrameRole
from nequip.errors import ConfigError, did_you_mean
from nequip.model.checkpoint import write_atomically
from nequip.model.potential import Potential
from nequip.model.registry import ModelConfig, build_potential
from nequip.train import ranks
from nequip.train.evaluation import evaluation_device
from nequip.train.extensions import load_extensions
from nequip.train.finetune import adapt, load_start
from nequip.train.fit import Fit, Stopped
from nequip.train.optimization import check_optimization
from nequip.train.prepare import PreparedData, prepare_data, resolve_model_config
from nequip.train.quiet import quiet_lightning


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run has left in `output_dir`."""

    output_dir: Path
    stopped: Stopped
    epochs: int  # whole epochs done, those before a resume included
    best_errors: dict[str, float]  # row of metrics.csv of the best epoch; empty before the first validation
    data: PreparedData

    @property
    def last(self) -> Path:
        """The potential at the end, its moving average where there is one."""
        return self.output_dir / "last.nequip"

    @property
    def best(self) -> Path:
        """The potential with the lowest monitored value; the last one where nothing was monitored yet."""
        return self.output_dir / "best.nequip" if self.best_errors else self.last

    @property
    def history(self) -> Path:
        """One row of numbers for each epoch."""
        return self.output_dir / "metrics.csv"


def run_training(config: RunConfig) -> TrainingOutcome:
    """Train as `config` says; everything is written to `config.output_dir`.

    Mistakes in the configuration show before the data is read, mistakes in the data before anything
    is written.

    Raises:
        NequIPError: for mistakes in the configuration, the data or a checkpoint.
        TrainingInterrupted: after Ctrl-C, when the state is saved.
        TrainingError: for a loss that is not finite, or when memory ran out.
    """
    output_dir = Path(config.output_dir)
    checkpoint = _checkpoint_to_resume(config, output_dir)
    check_optimization(config.train)
    with quiet_lightning():
        callbacks = load_extensions(config.extensions)
        potential, model, data = _potential_and_data(config)
        fit = Fit(potential, data, config, callbacks)
        if checkpoint is not None:
            fit.check(checkpoint)
        if ranks.rank() == 0:
            _write_inputs(config, model, data, output_dir)
        stopped = fit.run(checkpoint)
    return TrainingOutcome(output_dir, stopped, fit.module.position.epoch, fit.checkpoints.best_record, data)


def _potential_and_data(
    config: RunConfig,
) -> tuple[Potential, ModelConfig | PretrainedModel, PreparedData]:
    """What is trained, its section of the configuration without "auto", and what it is trained on."""
    if isinstance(config.model, ModelConfig):
        data = prepare_data(config)
        model = resolve_model_config(config.model, data)
        potential = build_potential(model)
        return potential, model, _with_replay(data, config.data.replay, potential.heads)
    start = load_start(config.model, config.train)
    data = prepare_data(config, start.potential.card)
    adapted = adapt(start, data, evaluation_device(config.trainer.accelerator))
    own = start.potential.heads[0]
    data = _with_replay(data, config.data.replay, adapted.potential.heads, own, adapted.shift_change.tolist())
    return adapted.potential, adapted.config, data


def _with_replay(
    data: PreparedData,
    config: ReplayConfig | None,
    heads: Sequence[str],
    default: str | None = None,
    shift_change: Sequence[float] | None = None,
) -> PreparedData:
    """The data with the role of its replay frames.

    Where they train the readout of the new frames, the reference of their energies moves as that does.
    """
    if config is None or data.replay is None:
        return data
    name = config.head or default or heads[0]
    if name not in heads:
        raise ConfigError(
            f"data.replay.head: no readout is called {name!r}{did_you_mean(name, heads)}; "
            f"there are {', '.join(heads)}."
        )
    head = heads.index(name)
    moved = None if shift_change is None or head > 0 else tuple(shift_change)
    return replace(data, replay=data.replay.in_role(FrameRole(head, config.weight, moved)))


def _checkpoint_to_resume(config: RunConfig, output_dir: Path) -> Path | None:
    """Raises ConfigError rather than write over an earlier run."""
    last = output_dir / "last.ckpt"
    if config.resume == "auto":
        return last if last.is_file() else None
    checkpoint = None if config.resume is None else Path(config.resume)
    if ranks.rank() > 0:
        return checkpoint  # the first process has looked, and may already have begun to write
    goes_on = checkpoint is not None and checkpoint.resolve().parent == output_dir.resolve()
    if not goes_on and any((output_dir / name).exists() for name in ("config.yaml", "last.ckpt")):
        raise ConfigError(
            f"output_dir {output_dir} already holds a run: say resume=auto to go on with it, or give another "
            "output_dir."
        )
    return checkpoint


def _write_inputs(
    config: RunConfig, model: ModelConfig | PretrainedModel, data: PreparedData, output_dir: Path
) -> None:
    """What the run was told, with every "auto" resolved, and the statistics that resolved them."""
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output_dir {output_dir} cannot be made: {error.strerror}.") from error
    write_atomically(output_dir / "config.yaml", to_yaml(config.model_copy(update={"model": model})).encode())
    write_atomically(output_dir / "statistics.json", json.dumps(data.statistics.as_dict(), indent=2).encode())
