"""What a run is told: frozen models that refuse keys they do not know.

Lengths in Å, energies in eV. `nequip.config.compose` fills them from Hydra; the architecture's own
section (`model`) is validated against the schema that its registry entry names, or with `model.file`
against PretrainedModel. The comment at a key is its description in the documentation.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator, model_validator

from nequip.config import CACHE_DIR
from nequip.kernels.backend import Backend
from nequip.model.card import DtypeName
from nequip.model.registry import ModelConfig


class Strict(BaseModel):
    """Frozen, and no key beyond those declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class LabelKeys(Strict):
    """Where the labels lie in a file; None looks under the usual names."""

    energy: str | None = None  # eV, of the whole structure
    forces: str | None = None  # eV/Å
    stress: str | None = None  # eV/Å³
    virial: str | None = None  # eV; read where there is no stress
    hessian: str | None = None  # eV/Å², 3N times 3N numbers: x, y, z of one atom after the other
    dipole: str | None = None  # e·Å
    polarizability: str | None = None  # e·Å²/V (1 Å³ is 0.0694461)
    # e, 9 numbers for each atom: change of dipole_x by x, y, z of the atom, then of dipole_y, dipole_z
    born_charges: str | None = None
    weight: str | None = None  # of the frame in the loss
    group: str | None = None  # what metrics and by-group splits tell frames apart by


class SplitConfig(Strict):
    """How one file becomes training, validation and test frames.

    Whole numbers count frames, fractions are shares of the file; a train of None takes the rest.
    """

    # by_group keeps each group in one part; fixed: see indices_file
    kind: Literal["random", "by_group", "fixed"] = "random"
    train: int | float | None = Field(None, ge=0)  # None: the rest
    val: int | float = Field(0.1, ge=0)  # ignored where there is a val_file
    test: int | float = Field(0, ge=0)  # ignored where there is a test_file
    seed: int = 0  # of the random order
    indices_file: str | None = None  # kind fixed: JSON or npz with arrays train, val, test


class BatchConfig(Strict):
    """Batches by a count of frames, or filled up to a budget of atoms or edges.

    Several processes divide each batch among them: numbers are those of all processes together.
    """

    size: int = Field(5, ge=1)  # frames
    max_atoms: int | None = Field(None, ge=1)  # holds instead of size, as does max_edges
    max_edges: int | None = Field(None, ge=1)  # edges are ordered pairs of neighbors
    val_size: int = Field(32, ge=1)  # frames, where no gradient is kept for training


class ReplayConfig(Strict):
    """Frames like those that a potential was trained on, mixed into training so that it is not forgotten."""

    file: str  # frames as in data.file
    keys: LabelKeys = LabelKeys()  # names of the labels in this file
    # how many an epoch takes for each new frame; drawn anew in each epoch, none twice
    ratio: float = Field(1.0, gt=0)
    val: int | float = Field(0.1, ge=0)  # frames held out, or their share: their errors are replay/...
    weight: float = Field(1.0, gt=0)  # of these frames in the loss, times that of each frame
    # the readout that they train; None: the first of the potential in model.file
    head: str | None = None


class DataConfig(Strict):
    """The frames: a path (extxyz and all ASE reads, .db, .h5, .lmdb) or a named set, `set:NAME`."""

    file: str  # training frames, and those of the parts without a file of their own
    val_file: str | None = None  # validation frames
    test_file: str | None = None  # frames that are only evaluated
    isolated_atoms_file: str | None = None  # energies of isolated atoms, for the shifts
    keys: LabelKeys = LabelKeys()  # names of the labels in the files
    stress_sign: Literal["ase", "opposite"] = "ase"  # ase: positive under tension
    split: SplitConfig = SplitConfig()  # how `file` is divided
    replay: ReplayConfig | None = None  # older frames beside the new ones; None: none
    batch: BatchConfig = BatchConfig()  # how many frames at a time
    num_workers: int = Field(0, ge=0)  # processes that load batches; 0: none beside the main one
    # named sets and neighbor lists; by default those of a store lie beside its shards
    cache_dir: str = CACHE_DIR


class LossTerm(Strict):
    """One term of the loss; `delta` is where Huber turns from square to linear."""

    weight: float = Field(1.0, ge=0)  # of this term in the sum
    # of the error e: e², |e|, or Huber's; for forces also stratified_huber, and norm: the length of e
    kind: Literal["mse", "mae", "huber", "stratified_huber", "norm"] = "mse"
    delta: float = Field(0.01, gt=0)  # in the unit of the label
    per_atom: bool = True  # energy only: divide by the number of atoms
    type_weights: dict[str, float] = {}  # forces only: weight by type of atom


class HessianTerm(LossTerm):
    """Products of the Hessian with directions drawn anew in each epoch; errors are those of its elements.

    Each direction costs about as much as energies and forces together. Where its weight is 0, as before the
    stage that switches it on, nothing is computed.
    """

    # random: any direction of all atoms together; rows: along one coordinate of one atom
    directions: Literal["random", "rows"] = "random"
    num_directions: int = Field(1, ge=1)  # for each frame


class ForceConstantsTerm(LossTerm):
    """Force constants of crystals with waves drawn anew in each epoch; errors are those of their elements.

    Each wave costs about as much as the primitive cell four times. Where its weight is 0 nothing is computed.
    """

    num_waves: int = Field(1, ge=1)  # for each crystal: with q that fit into the supercell of its constants


TermName = Literal[
    "energy", "forces", "stress", "hessian", "force_constants", "dipole", "polarizability", "born_charges"
]


class LossStage(Strict):
    """Weights that hold from an epoch on; "linear" slides there from the stage before.

    Validation takes the weights of the stage, or where weights slide those at the end of the slide; when
    they change, the best checkpoint is chosen anew. Early stopping begins with the last stage.
    """

    epoch: int = Field(ge=0)  # counted from 0
    weights: dict[TermName, float]  # the terms not named keep theirs
    interpolation: Literal["step", "linear"] = "step"  # step: at once
    # learning rate from the epoch on, where the scheduler comes to rest; None: the scheduler goes on
    lr: float | None = Field(None, gt=0)


class LossConfig(Strict):
    """Energies in eV (per atom by default), forces in eV/Å, stress in eV/Å³, second derivatives in eV/Å².

    For models with `electric_field` dipoles in e·Å, polarizabilities in e·Å²/V, Born charges in e.
    """

    energy: LossTerm | None = LossTerm(weight=1.0)  # None: no such term
    forces: LossTerm | None = LossTerm(weight=1.0)  # None: no such term
    stress: LossTerm | None = None  # None: no such term
    hessian: HessianTerm | None = None  # None: no such term
    force_constants: ForceConstantsTerm | None = None  # None: no such term
    dipole: LossTerm | None = None  # None: no such term
    polarizability: LossTerm | None = None  # None: no such term
    born_charges: LossTerm | None = None  # None: no such term
    schedule: tuple[LossStage, ...] = ()  # weights that change with the epoch


class DensConfig(Strict):
    """Denoising beside energies and forces: atoms are displaced, and the model finds where they were.

    The potential that is saved has no trace of it.
    """

    probability: float = Field(0.25, gt=0, le=1)  # that a frame is displaced
    ratio: float = Field(0.25, gt=0, le=1)  # share of its atoms that are
    # Å, standard deviation of displacements; two numbers: one between them for each frame, by its logarithm
    sigma: float | tuple[float, float] = 0.05
    encode_forces: bool = True  # tell the model the forces that displaced atoms had
    weight: float = Field(5.0, ge=0)  # in the loss, of the length of the error, in units of sigma
    schedule: Literal["linear", "constant"] = "linear"  # linear: the weight falls to 0 at trainer.max_epochs

    @field_validator("sigma")
    @classmethod
    def _positive_and_ascending(cls, sigma: float | tuple[float, float]) -> float | tuple[float, float]:
        low, high = sigma if isinstance(sigma, tuple) else (sigma, sigma)
        if not 0 < low <= high:
            raise ValueError("sigma has to be above 0, and of two numbers the smaller first")
        return sigma


class OptimizerConfig(Strict):
    """Any optimizer of torch.optim by name, with its own arguments in `params`."""

    name: str = "AdamW"  # a class of torch.optim
    lr: float = Field(0.01, gt=0)  # learning rate
    weight_decay: float | None = None  # None: the optimizer's own default
    params: dict[str, Any] = {}  # further arguments of the class


class SchedulerConfig(Strict):
    """Any scheduler of torch.optim.lr_scheduler by name, with its own arguments in `params`."""

    name: str = "ReduceLROnPlateau"  # a class of torch.optim.lr_scheduler
    interval: Literal["epoch", "step"] = "epoch"  # when it steps
    monitor: str = "val/loss"  # what ReduceLROnPlateau looks at
    params: dict[str, Any] = {}  # arguments of the class


class EarlyStoppingConfig(Strict):
    """Stop when `monitor` has not improved by `min_delta` for `patience` validations."""

    monitor: str = "val/loss"  # a column of metrics.csv
    patience: int = Field(50, ge=1)  # validations
    min_delta: float = Field(0.0, ge=0)  # what counts as an improvement
    min_lr: float = Field(0.0, ge=0)  # also stop when the learning rate falls below


class TrainConfig(Strict):
    """What is minimized, and how."""

    loss: LossConfig = LossConfig()  # what is minimized
    dens: DensConfig | None = None  # denoising as a further task; None: none
    optimizer: OptimizerConfig = OptimizerConfig()  # how
    scheduler: SchedulerConfig | None = None  # of the learning rate; None: constant
    freeze: tuple[str, ...] = ()  # names of weights that stay as they are, with * for any part of a name
    ema_decay: float | None = Field(0.99, gt=0, lt=1)  # None: no moving average
    gradient_clip: float | None = Field(None, gt=0)  # norm
    # by torch.compile: a minute or more once, for steps that take about half the time; steps with second
    # derivatives run as they are
    compile: bool = False
    # for a batch whose loss or gradient is not finite, which is saved: end the run, or leave out the step
    not_finite: Literal["stop", "skip"] = "stop"
    early_stopping: EarlyStoppingConfig | None = None  # None: train for all of trainer.max_epochs
    monitor: str = "val/loss"  # what makes a checkpoint the best


class LoggingConfig(Strict):
    """CSV is always written; the others on request."""

    tensorboard: bool = False  # write event files to output_dir/tensorboard
    wandb: Literal["off", "online", "offline"] = "off"  # Weights & Biases; offline writes to output_dir/wandb
    project: str = "e3forge"  # of wandb
    name: str | None = None  # of the run in wandb; None: wandb invents one
    every_n_steps: int = Field(10, ge=1)  # rows of steps.csv
    # auto: a bar on a terminal, else a line for each epoch
    progress: Literal["auto", "bar", "lines", "off"] = "auto"


class TrainerConfig(Strict):
    """How long, on what, and what is written."""

    max_epochs: int = Field(100, ge=1)  # passes over the training frames
    # stops there with everything saved; resume=auto goes on
    max_time: str | None = Field(
        None, pattern=r"^\d+:\d\d:\d\d:\d\d$", description="a time as DD:HH:MM:SS or null"
    )
    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps", "tpu"] = "auto"  # as in Lightning
    devices: int | Literal["auto"] = 1  # how many on each machine, a process for each; auto: all there are
    num_nodes: int = Field(1, ge=1)  # machines
    strategy: str = "auto"  # as in Lightning; several devices train with ddp
    check_val_every_n_epoch: int = Field(1, ge=1)  # epochs between two validations
    logging: LoggingConfig = LoggingConfig()  # what is written and shown
    report: bool = True  # draw report.html when training has ended


class Extensions(Strict):
    """Third-party code: modules to import, and Lightning callbacks given as `_target_` mappings."""

    modules: tuple[str, ...] = ()  # imported before the run is built
    # `_target_` is the full name of the class, the rest its arguments
    callbacks: tuple[dict[str, Any], ...] = ()


class PretrainedModel(Strict):
    """A potential to go on from, in the place of an architecture: its file brings shape and weights."""

    file: str  # any that nequip.load reads
    # auto: its own and those of the training frames; a list may leave some of them out
    type_names: tuple[str, ...] | Literal["auto"] = "auto"
    # eV; auto: least squares; isolated_atoms: theirs and a constant; keep: its own; a mapping: of those named
    per_type_energy_shifts: dict[str, float] | Literal["auto", "isolated_atoms", "keep"] = "auto"
    # the readout that new frames train: a new one that starts as a copy, or one of its own; None: its first
    head: str | None = None
    dtype: DtypeName | None = None  # None: that of the file
    backend: Backend = "auto"  # of the kernels


class RunConfig(Strict):
    """One training run."""

    data: DataConfig  # the frames
    # the architecture, whose keys depend on `name`; with `file` a potential to go on from
    model: SerializeAsAny[ModelConfig | PretrainedModel] = Field(default_factory=ModelConfig)
    train: TrainConfig = TrainConfig()  # what is minimized, and how
    trainer: TrainerConfig = TrainerConfig()  # how long, on what, and what is written
    extensions: Extensions = Extensions()  # third-party code
    output_dir: str = "outputs"  # where everything goes
    seed: int = 0  # of the order of the frames, and of the weights unless model.seed is given
    resume: str | Literal["auto"] | None = None  # a checkpoint, or "auto": last.ckpt of output_dir

    @model_validator(mode="after")
    def _labels_are_predicted(self) -> RunConfig:
        loss = self.train.loss
        energy_only = isinstance(self.model, ModelConfig) and self.model.energy_only
        if energy_only and (loss.forces or loss.stress or loss.hessian or loss.force_constants):
            raise ValueError(
                "model.energy_only leaves no forces, stress or Hessian to train on: set to null what "
                "train.loss has of forces, stress, hessian and force_constants, or drop energy_only"
            )
        if self.train.compile and self.train.dens:
            raise ValueError(
                "train.compile is for energies, forces and stress, not for train.dens: leave one of them out"
            )
        if not any(getattr(loss, name) for name in get_args(TermName)):
            raise ValueError(f"train.loss has no term: keep at least one of {', '.join(get_args(TermName))}")
        return self
