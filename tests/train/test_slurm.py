"""Jobs of a real SLURM of two nodes, both on this machine, train as one process does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from interrupted_runs import rows

from nequip.config.schema import RunConfig
from nequip.train.callbacks.stop import TrainingInterrupted
from nequip.train.checkpointing import load_checkpoint
from nequip.train.run import run_training

pytestmark = pytest.mark.skipif(
    shutil.which("slurmctld") is None or os.geteuid() != 0,
    reason="needs root and Debian's packages slurmctld slurmd slurm-client munge",
)
CLUSTER = Path(__file__).with_name("slurm_cluster.sh")

# What trainer=slurm decides.
WIDTH = {"accelerator", "devices", "num_nodes", "strategy"}

# The address of the first node: SLURM's names of nodes are no addresses where all are one machine.
SCRIPT = """\
#!/bin/bash
#SBATCH --job-name=train --nodes=2 --ntasks-per-node=1 --requeue --open-mode=append --output={folder}/job.log
export MASTER_ADDR=127.0.0.1 OMP_NUM_THREADS=1 PYTHONPATH={package}
srun {train} {folder}/run.yaml trainer=slurm
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands find the cluster."""
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run(["bash", CLUSTER, "start", folder], check=True)
    yield {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run(["bash", CLUSTER, "stop", folder], check=True)


@pytest.fixture
def submit(slurm: dict[str, str], tiny_package: Path, tmp_path: Path) -> Callable[[RunConfig], Job]:
    def submit(config: RunConfig) -> Job:
        tree: dict[str, Any] = config.model_dump(mode="json", exclude={"resume": True, "trainer": WIDTH})
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
        train = Path(sys.executable).with_name("nequip-train")
        script = SCRIPT.format(folder=tmp_path, package=tiny_package, train=train)
        done = subprocess.run(
            ["sbatch", "--parsable"], input=script, env=slurm, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return Job(done.stdout.strip(), slurm, tmp_path / "job.log")

    return submit


class Job:
    """One that sbatch has taken."""

    def __init__(self, number: str, environment: dict[str, str], log: Path):
        self.number, self.log = number, log
        self._environment = environment

    def state(self) -> str:
        words = ["squeue", "--noheader", "--jobs", self.number, "--format=%T"]
        return subprocess.run(words, env=self._environment, capture_output=True, text=True).stdout.strip()

    def cancel(self) -> None:
        subprocess.run(["scancel", self.number], env=self._environment, check=True)

    def wait(self) -> str:
        """What the job wrote, once it has left the queue."""
        while self.state():
            time.sleep(0.3)
        return self.log.read_text()


def losses(folder: Path) -> dict[str, float]:
    """Validation losses by step."""
    return {row["step"]: float(row["val/loss"]) for row in rows(folder / "metrics.csv")}


def test_a_job_that_is_queued_again_ends_as_one_process_does(make_config, submit, tmp_path):
    # The signal reaches one of the two processes.
    ask = {"_target_": "saboteurs.AskToRequeue", "step": 10, "rank": 1}
    config = make_config(model={"dtype": "float64"}, extensions={"callbacks": [ask]})
    log = submit(config).wait()
    assert log.count("is queued again") == 1, log
    one = run_training(make_config(model={"dtype": "float64"}, output_dir=str(tmp_path / "one"))).output_dir
    ours, theirs = (rows(Path(folder) / "metrics.csv") for folder in (config.output_dir, one))
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    assert [float(row["val/loss"]) for row in ours] == pytest.approx(
        [float(row["val/loss"]) for row in theirs]
    )


def test_a_job_that_nequip_submit_sends_is_warned_and_goes_on_to_the_end(
    make_config, slurm, tiny_package, tmp_path
):
    ask = {"_target_": "saboteurs.AskToRequeue", "step": 10, "rank": 1}
    config = make_config(extensions={"callbacks": [ask]})
    tree = config.model_dump(mode="json", exclude={"resume": True, "trainer": WIDTH})
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    before = [f"export MASTER_ADDR=127.0.0.1 PYTHONPATH={tiny_package}:$PYTHONPATH"]
    words = ["submit", str(tmp_path / "run.yaml"), "--nodes", "2", "--time", "10", "--before", *before]
    done = subprocess.run(
        [sys.executable, "-m", "nequip.cli.main", *words, "trainer.max_epochs=3"],
        env=slurm | {"PYTHONPATH": f"{tiny_package}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    folder = Path(config.output_dir)
    log = Job(done.stdout.split()[1], slurm, folder / "job.log").wait()
    assert log.count("is queued again") == 1, log
    assert [row["epoch"] for row in rows(folder / "metrics.csv")] == ["1", "2", "3"], log


def test_what_sbatch_refuses_is_told_in_one_sentence(make_config, slurm, tmp_path):
    (tmp_path / "run.yaml").write_text("data: {file: frames.xyz}\noutput_dir: " + str(tmp_path / "run"))
    words = ["submit", str(tmp_path / "run.yaml"), "--sbatch", "partition=none"]
    done = subprocess.run(
        [sys.executable, "-m", "nequip.cli.main", *words], env=slurm, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("nequip submit: sbatch refuses "), done.stderr
    assert done.stderr.count("\n") == 1


def test_scancel_leaves_a_checkpoint_to_go_on_from(make_config, submit):
    config = make_config(trainer={"max_epochs": 100_000})
    job, last = submit(config), Path(config.output_dir) / "last.ckpt"
    while not last.is_file():
        time.sleep(0.3)
    job.cancel()
    assert "resume=auto" in job.wait()
    epoch, batch = load_checkpoint(last)["training"]["position"]
    assert epoch > 0 or batch > 0


def test_sigterm_stops_a_run_with_everything_saved(make_config):
    stop = {"_target_": "saboteurs.Terminate", "step": 10}
    with pytest.raises(TrainingInterrupted, match="resume=auto"):
        run_training(make_config(extensions={"callbacks": [stop]}))
