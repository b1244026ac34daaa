"""What needs a process of its own: first calls, and peak memory."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPTS = Path(__file__).parents[1]


def first_calls(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds of a first convolution with gradients and of a first force evaluation, after all imports.

    Cold: in an empty home folder, so that nothing is built yet. Warm: in the same one, once more.
    """
    rows: dict[str, dict[str, float]] = {}
    print(f"\n{'first call in a fresh process':40}{'cold, s':>10}{'warm, s':>10}")
    for backend in options.backends:
        for what in ("convolution", "forces"):
            request = {"what": what, "backend": backend}
            with tempfile.TemporaryDirectory() as home:
                cold, warm = (ask("first_call", request, options, home)["seconds"] for _ in range(2))
            rows[f"{what}, {backend}"] = {"cold_s": cold, "warm_s": warm}
            print(f"    {what + ', ' + backend:36}{cold:10.2f}{warm:10.2f}", flush=True)
    return rows


def memory(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """GB at the peak of a force evaluation, and at the peak before it (imports, model, neighbor list)."""
    rows: dict[str, dict[str, object]] = {}
    print("\npeak memory of a force evaluation of water, GB")
    for backend in options.backends:
        request = {"atoms": options.memory_atoms, "backend": backend, "limit_gb": options.memory_limit_gb}
        answer = ask("memory", request, options)
        rows[backend] = answer
        held, before = answer["peak_gb"], answer["before_gb"]
        told = f"{held if isinstance(held, str) else f'{held:.2f}'} ({before:.2f} before it)"
        print(f"    {backend}: {answer['atoms']} atoms, {answer['edges']} edges: {told}", flush=True)
    return rows


def ask(
    worker: str, request: dict[str, object], options: argparse.Namespace, home: str | None = None
) -> dict[str, float]:
    """The answer of one of our workers, run with the caches that lie in `home`."""
    request = {**request, "threads": options.threads, "dtype": options.dtype, "device": options.device}
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    if home is not None:
        folders = {
            "XDG_CACHE_HOME": ".cache",
            "TORCHINDUCTOR_CACHE_DIR": "inductor",
            "TRITON_CACHE_DIR": "triton",
        }
        environment |= {"HOME": home} | {key: f"{home}/{folder}" for key, folder in folders.items()}
    command = [sys.executable, "-m", f"bench_kernels_parts.{worker}", json.dumps(request)]
    done = subprocess.run(command, cwd=SCRIPTS, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])
