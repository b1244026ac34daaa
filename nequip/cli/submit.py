"""`nequip submit`: write the batch script of docs/tutorials/distributed.md and give it to sbatch."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from nequip.config.locate import config_file
from nequip.errors import ConfigError

SCRIPT = "submit.sh"
EXAMPLES = """\
examples:
  nequip submit my.yaml --nodes 2 --tasks-per-node 4 --gpus-per-task 1 --time 24:00:00
  nequip submit my.yaml --tasks-per-node 16 --cpus-per-task 4 data.batch.size=64 trainer.max_epochs=500
  nequip submit my.yaml --sbatch partition=long --sbatch account=me
                                               what else sbatch is to be told
  nequip submit my.yaml --before "module load cuda" --dry-run
                                               show the script, submit nothing

The job is queued again before its time is over and goes on where it stopped, until training is done.
"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.description = "Train as a job of SLURM, one process for each task."
    parser.epilog = EXAMPLES
    parser.add_argument("config", metavar="CONFIG.yaml", help="the configuration")
    parser.add_argument("words", nargs="*", metavar="key=value", help="changes to it, as for nequip-train")
    parser.add_argument("--nodes", type=int, default=1, help="machines (default 1)")
    parser.add_argument("--tasks-per-node", type=int, default=1, help="processes on each (default 1)")
    parser.add_argument("--cpus-per-task", type=int, default=1, help="cores of each (default 1)")
    parser.add_argument("--gpus-per-task", type=int, choices=[0, 1], default=0, help="0 trains on CPUs")
    parser.add_argument("--time", default="24:00:00", help="limit of sbatch (default 24:00:00)")
    parser.add_argument("--warning", type=int, default=300, metavar="S", help="to save before it (300 s)")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="one more of sbatch")
    parser.add_argument("--before", action="append", default=[], metavar="LINE", help="of shell, before srun")
    parser.add_argument("--dry-run", action="store_true", help="print the script and stop")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Compose the configuration first, so that mistakes show now and not when the job begins."""
    from nequip.config.compose import compose

    file = config_file(Path(options.config)).resolve()
    where = "gpu" if options.gpus_per_task else "cpu"
    words = ["trainer=slurm", f"trainer.accelerator={where}", *options.words]
    folder = Path(compose(file, words).output_dir).resolve()
    script = batch_script(options, folder, [str(file), *words])
    if options.dry_run:
        print(script, end="")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SCRIPT).write_text(script)
        done = subprocess.run(
            ["sbatch", "--parsable", folder / SCRIPT], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename} is not found here: submit where SLURM is installed.") from error
    except OSError as error:
        raise ConfigError(f"{folder / SCRIPT} cannot be written: {error.strerror}.") from error
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise ConfigError(f"sbatch refuses {folder / SCRIPT} ({reason}): change it or the options.")
    number = done.stdout.strip().partition(";")[0]
    print(f"Job {number} is queued; it writes to {folder / 'job.log'}, and scancel {number} stops it.")


def batch_script(options: argparse.Namespace, folder: Path, words: list[str]) -> str:
    """What sbatch gets; jobs start in the folder of the submission, so that paths mean the same."""
    told = [
        f"--nodes={options.nodes}",
        f"--ntasks-per-node={options.tasks_per_node}",
        f"--cpus-per-task={options.cpus_per_task}",
        *([f"--gpus-per-node={options.tasks_per_node}"] if options.gpus_per_task else []),
        f"--time={options.time}",
        f"--signal=USR1@{options.warning}",
        "--requeue",
        "--open-mode=append",
        f"--output={folder / 'job.log'}",
        *(f"--{each.lstrip('-')}" for each in options.sbatch),
    ]
    lines = ["#!/bin/bash", *(f"#SBATCH {each}" for each in told)]
    lines += ["export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK", *options.before]
    train = [sys.executable, "-m", "nequip.cli.main", "train", *words]
    lines.append(f"srun --cpus-per-task=$SLURM_CPUS_PER_TASK --kill-on-bad-exit=1 {shlex.join(train)}")
    return "\n".join(lines) + "\n"
