"""A run as a job of SLURM: which one it is, and how it is queued again before its time is over."""

from __future__ import annotations

import os
import subprocess

from lightning.fabric.plugins.environments import SLURMEnvironment


def environment() -> SLURMEnvironment | None:
    """What tells Lightning its place where srun has started the processes; None elsewhere.

    Lightning would save and queue again from within the handler of the signal, in each process at another
    step, and wait for the others forever. `StopBetweenBatches` does it, in all of them together.
    """
    return SLURMEnvironment(auto_requeue=False) if SLURMEnvironment.detect() else None


def job_id() -> str | None:
    """The number of the job, in an array with that of the task; None where there is none."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return os.environ.get("SLURM_JOB_ID") if array is None else f"{array}_{task}"


def requeue(job: str) -> str:
    """Queue the job again; why it could not be, or nothing."""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"scontrol: {error.strerror}"
    return "" if done.returncode == 0 else done.stderr.strip()
