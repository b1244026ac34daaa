"""What a run is told: frozen models that refuse keys they do not know.

Lengths in Å, energies in eV. `nequip.config.compose` fills them from Hydra; the architecture's own
section (`model`) is validated against the schema that its registry entry names.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from nequip.model.registry import ModelConfig


class Strict(BaseModel):
    """Frozen, and no key beyond those declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class LabelKeys(Strict):
    """Where the labels lie in a file; None looks under the usual names."""

    energy: str | None = None
    forces: str | None = None
    stress: str | None = None
    virial: str | None = None
    weight: str | None = None  # of the frame in the loss
    group: str | None = None  # what metrics and by-group splits tell frames apart by


class SplitConfig(Strict):
    """How one file becomes training, validation and test frames.

    Whole numbers count frames, fractions are shares of the file; a train of None takes the rest.
    """

    kind: Literal["random", "by_group", "fixed"] = "random"
    train: int | float | None = Field(None, ge=0)
    val: int | float = Field(0.1, ge=0)
    test: int | float = Field(0, ge=0)
    seed: int = 0
    indices_file: str | None = None  # kind fixed: JSON or npz with arrays train, val, test


class BatchConfig(Strict):
    """Batches by a count of frames, or filled up to a budget of atoms or edges."""

    size: int = Field(5, ge=1)  # frames
    max_atoms: int | None = Field(None, ge=1)
    max_edges: int | None = Field(None, ge=1)
    val_size: int = Field(32, ge=1)


class DataConfig(Strict):
    """The frames: a path (extxyz and all ASE reads, .db, .h5, .lmdb) or a named set, `set:NAME`."""

    file: str
    val_file: str | None = None
    test_file: str | None = None
    isolated_atoms_file: str | None = None  # energies of isolated atoms, for the shifts
    keys: LabelKeys = LabelKeys()
    stress_sign: Literal["ase", "opposite"] = "ase"  # ase: positive under tension
    split: SplitConfig = SplitConfig()
    batch: BatchConfig = BatchConfig()
    num_workers: int = Field(0, ge=0)
    cache_dir: str = "~/.cache/e3forge"  # named sets and neighbor lists


class LossTerm(Strict):
    """One term of the loss; `delta` is where Huber turns from square to linear."""

    weight: float = Field(1.0, ge=0)
    kind: Literal["mse", "mae", "huber", "stratified_huber"] = "mse"
    delta: float = Field(0.01, gt=0)  # in the unit of the label
    per_atom: bool = True  # energy only: divide by the number of atoms
    type_weights: dict[str, float] = {}  # forces only: weight by type of atom


class LossStage(Strict):
    """Weights that hold from an epoch on; "linear" slides there from the stage before."""

    epoch: int = Field(ge=0)
    weights: dict[Literal["energy", "forces", "stress"], float]
    interpolation: Literal["step", "linear"] = "step"


class LossConfig(Strict):
    """Energies in eV (per atom by default), forces in eV/Å, stress in eV/Å³."""

    energy: LossTerm | None = LossTerm(weight=1.0)
    forces: LossTerm | None = LossTerm(weight=1.0)
    stress: LossTerm | None = None
    schedule: tuple[LossStage, ...] = ()


class OptimizerConfig(Strict):
    """Any optimizer of torch.optim by name, with its own arguments in `params`."""

    name: str = "AdamW"
    lr: float = Field(0.01, gt=0)
    weight_decay: float | None = None  # None: the optimizer's own default
    params: dict[str, Any] = {}


class SchedulerConfig(Strict):
    """Any scheduler of torch.optim.lr_scheduler by name, with its own arguments in `params`."""

    name: str = "ReduceLROnPlateau"
    interval: Literal["epoch", "step"] = "epoch"
    monitor: str = "val/loss"
    params: dict[str, Any] = {}


class EarlyStoppingConfig(Strict):
    """Stop when `monitor` has not improved by `min_delta` for `patience` validations."""

    monitor: str = "val/loss"
    patience: int = Field(50, ge=1)
    min_delta: float = Field(0.0, ge=0)
    min_lr: float = Field(0.0, ge=0)  # also stop when the learning rate falls below


class TrainConfig(Strict):
    """What is minimised, and how."""

    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig | None = None
    ema_decay: float | None = Field(0.99, gt=0, lt=1)  # None: no moving average
    gradient_clip: float | None = Field(None, gt=0)  # norm
    early_stopping: EarlyStoppingConfig | None = None
    monitor: str = "val/loss"  # what makes a checkpoint the best


class LoggingConfig(Strict):
    """CSV is always written; the others on request."""

    tensorboard: bool = False
    wandb: Literal["off", "online", "offline"] = "off"
    project: str = "e3forge"
    name: str | None = None
    every_n_steps: int = Field(10, ge=1)
    progress: Literal["auto", "bar", "lines", "off"] = "auto"


class TrainerConfig(Strict):
    """How long, on what, and what is written."""

    max_epochs: int = Field(100, ge=1)
    max_time: str | None = Field(
        None, pattern=r"^\d+:\d\d:\d\d:\d\d$", description="a time as DD:HH:MM:SS or null"
    )
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"
    devices: int | Literal["auto"] = 1
    num_nodes: int = Field(1, ge=1)
    strategy: str = "auto"
    check_val_every_n_epoch: int = Field(1, ge=1)
    logging: LoggingConfig = LoggingConfig()
    report: bool = True


class Extensions(Strict):
    """Third-party code: modules to import, and Lightning callbacks given as `_target_` mappings."""

    modules: tuple[str, ...] = ()
    callbacks: tuple[dict[str, Any], ...] = ()


class RunConfig(Strict):
    """One training run."""

    data: DataConfig
    model: SerializeAsAny[ModelConfig] = Field(default_factory=ModelConfig)
    train: TrainConfig = TrainConfig()
    trainer: TrainerConfig = TrainerConfig()
    extensions: Extensions = Extensions()
    output_dir: str = "outputs"
    seed: int = 0
    resume: str | Literal["auto"] | None = None  # a checkpoint, or "auto": last.ckpt of output_dir

    @model_validator(mode="after")
    def _labels_are_predicted(self) -> RunConfig:
        loss = self.train.loss
        if self.model.energy_only and (loss.forces or loss.stress):
            raise ValueError(
                "model.energy_only leaves no forces or stress to train on: "
                "set train.loss.forces=null train.loss.stress=null, or drop energy_only"
            )
        if not (loss.energy or loss.forces or loss.stress):
            raise ValueError("train.loss has no term: keep at least one of energy, forces, stress")
        return self
