"""`nequip train`: compose the configuration, train, draw the report, say where everything lies."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nequip.config.locate import config_file, config_names, named_config, shipped_configs
from nequip.errors import ConfigError

if TYPE_CHECKING:
    from nequip.config.schema import RunConfig, SchedulerConfig
    from nequip.train.evaluation import Evaluation
    from nequip.train.run import TrainingOutcome

ENDS = {
    "max_epochs": "all of trainer.max_epochs",
    "early_stopping": "no improvement any more",
    "max_time": "trainer.max_time is over",
}
REPORT = "report/report.html"
FILES = {
    "best.nequip": "weights of the best epoch",
    "best_raw.nequip": "those weights without the moving average",
    "last.nequip": "weights at the end",
    "last.ckpt": "state to go on from",
    "metrics.csv": "losses and errors, epoch by epoch",
    REPORT: "parity plots, tables of errors, worst frames, learning curves",
    "config.yaml": "the configuration with every value",
}
SHOWN = re.compile("(energy_per_atom|forces|stress)_mae")
EXAMPLES = """\
examples:
  nequip-train -cn start data.file=my.xyz      a first model of your own, all else by default
  nequip-train my.yaml train.optimizer.lr=0.005 trainer.max_epochs=50
  nequip-train my.yaml model=nequip_l trainer=gpu
                                               take whole sections from the shipped groups
  nequip-train my.yaml resume=auto             go on where the last run in output_dir stopped
  nequip-train my.yaml -m model.l_max=1,2 seed=1,2
                                               four runs, in output_dir/0 to output_dir/3
  nequip-train my.yaml --print-config          every key with its value, nothing is run

a configuration that works:
  defaults: [{model: nequip_s}, {train: forces}]
  data: {file: my.xyz, split: {val: 0.1}}
  model: {r_max: 5.0}
"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    groups = [folder.name for folder in sorted(shipped_configs().iterdir()) if folder.is_dir()]
    lines = [f"  {group:12}{', '.join(config_names(shipped_configs() / group))}" for group in groups]
    parser.description = "Train a potential from a YAML configuration and key=value words that change it."
    parser.epilog = f"{EXAMPLES}\nshipped, for -cn:\n  {', '.join(config_names(shipped_configs()))}\n"
    parser.epilog += "\n".join(["shipped groups, for GROUP=CHOICE:", *lines])
    parser.add_argument(
        "words", nargs="*", metavar="CONFIG.yaml|key=value", help="the configuration, and changes to it"
    )
    parser.add_argument(
        "-cn", "--config-name", metavar="NAME", help="a configuration by name: shipped, or in --config-path"
    )
    parser.add_argument(
        "-cp", "--config-path", "--config-dir", type=Path, metavar="DIR", help="folder for --config-name"
    )
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="run every combination of comma-separated values"
    )
    parser.add_argument(
        "--print-config", "--cfg", action="store_true", help="print the whole configuration and stop"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compose every configuration before the first run starts, so that mistakes come first."""
    from nequip.config.compose import compose, expand, to_yaml

    file, words = _chosen(options)
    runs = [compose(file, changed) for changed in (expand(words) if options.multirun else [words])]
    if options.multirun:
        runs = [_numbered(config, number) for number, config in enumerate(runs)]
    if options.print_config:
        print("---\n".join(map(to_yaml, runs)), end="")
        return
    for number, config in enumerate(runs, 1):
        if options.multirun:
            print(f"\nRun {number} of {len(runs)}, in {config.output_dir}", flush=True)
        _train(config)


def _chosen(options: argparse.Namespace) -> tuple[Path, list[str]]:
    """The file of the configuration, and the words that change it."""
    files = [word for word in options.words if _is_file(word)]
    words = [word for word in options.words if not _is_file(word)]
    name, folder = options.config_name, options.config_path
    if len(files) + (name is not None) != 1:
        given = " and ".join([*files, *([f"-cn {name}"] if name else [])]) or "none"
        raise ConfigError(
            f"one configuration is needed, a file or -cn NAME, and {given} is given: "
            "a first one is nequip-train -cn start data.file=my.xyz."
        )
    if name is not None:
        return named_config(name, folder), words
    if folder is not None:
        raise ConfigError(f"--config-path goes with -cn NAME: write {folder / files[0]}, or -cn {files[0]}.")
    return config_file(Path(files[0])), words


def _is_file(word: str) -> bool:
    return Path(word).is_file() or not ("=" in word or word.startswith("~"))


def _numbered(config: RunConfig, number: int) -> RunConfig:
    return config.model_copy(update={"output_dir": str(Path(config.output_dir) / str(number))})


def _train(config: RunConfig) -> None:
    from lightning.pytorch.utilities import rank_zero_only

    from nequip.train.run import run_training

    outcome = run_training(config)
    if rank_zero_only.rank == 0:
        errors = _report(config, outcome) if config.trainer.report else {}
        print(_summary(outcome, errors, config.train.scheduler), flush=True)


def _report(config: RunConfig, outcome: TrainingOutcome) -> dict[str, Evaluation]:
    """Evaluate the best weights on validation and test frames, and draw what came out."""
    from nequip.model.checkpoint import load
    from nequip.plotting import write_report
    from nequip.train.evaluation import evaluate, evaluation_device

    potential = load(outcome.best, device=evaluation_device(config.trainer.accelerator))
    sets = {"val": outcome.data.val, "test": outcome.data.test}
    if outcome.data.replay is not None:
        sets["replay"] = outcome.data.replay.val
    print(f"\nEvaluating {outcome.best} on {sum(map(len, sets.values()))} frames ...", flush=True)
    evaluations = {
        name: evaluate(potential, dataset, batch_size=config.data.batch.val_size)
        for name, dataset in sets.items()
        if len(dataset)
    }
    if evaluations:
        described = config.model_dump(mode="json")
        write_report(evaluations, outcome.history, outcome.output_dir / "report", config=described)
    return evaluations


def _how_to_train_on(outcome: TrainingOutcome, scheduler: SchedulerConfig | None) -> list[str]:
    """A schedule of a fixed length has ended with its run; one by plateau, or none, just goes on."""
    if scheduler is not None and scheduler.name != "ReduceLROnPlateau" and outcome.stopped == "max_epochs":
        return [f"\nTo train longer, start anew with more epochs: {scheduler.name} has run its course."]
    command = f"nequip-train {outcome.output_dir / 'config.yaml'} resume=auto"
    return ["\nTo train on:", f"  {command} trainer.max_epochs={2 * outcome.epochs}"]


def _summary(
    outcome: TrainingOutcome, evaluations: Mapping[str, Evaluation], scheduler: SchedulerConfig | None
) -> str:
    """The errors, where everything lies, and what to do next."""
    from nequip.plotting.tables import error_table

    folder = outcome.output_dir
    epochs = f"{outcome.epochs} epoch{'s' if outcome.epochs != 1 else ''}"
    lines = [f"\nTraining ended after {epochs} ({ENDS[outcome.stopped]})."]
    for name, evaluation in evaluations.items():
        # What fits a terminal; the whole table is in the report.
        shown = {key: error for key, error in evaluation.errors.items() if SHOWN.match(key)}
        lines += [f"\nErrors of {outcome.best.name}, {name} frames:", error_table(shown).text()]
    # A report that was not drawn now may be one of an earlier part of this run.
    present = [name for name in FILES if (folder / name).exists() and (evaluations or name != REPORT)]
    lines += [f"\nIn {folder}:", *(f"  {name:20}{FILES[name]}" for name in present)]
    lines += [
        "\nTo use it in ASE:",
        "  from nequip.calculators import NequIPCalculator",
        f'  atoms.calc = NequIPCalculator("{outcome.best}")',
        *_how_to_train_on(outcome, scheduler),
    ]
    return "\n".join(lines)
