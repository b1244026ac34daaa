"""Training with and without a technique, with several seeds: errors on frames that nobody trained on.

    python scripts/experiments.py dens rmd17_aspirin_train01.xyz [--seeds 0 1 2] [--processes 2]
    python scripts/experiments.py hessian pyscf_H2O_hessian.xyz [--output FILE.json]

dens: aspirin, 250 training frames, with denoising of displaced atoms (DeNS, arXiv:2403.09549).
hessian: water, few training frames, with their Hessians beside energies and forces (arXiv:2403.11347).
A seed decides the frames that are trained on, the initial weights and the order; arms share all three.
Each run has one core. Prints the mean over seeds and the standard deviation of one seed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

ERRORS = {
    "energy_mae": ("energy, meV", 1000.0),
    "forces_mae": ("forces, meV/Å", 1000.0),
    "hessian_mae": ("Hessian, eV/Å²", 1.0),
}
WITHOUT_HESSIANS = ("train.loss.hessian=null", "train.loss.schedule=[]")
# by experiment: the configuration, and the words of each arm
EXPERIMENTS: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "dens": (
        "aspirin_dens",
        {
            "without": ("train.dens=null",),
            "without, 1.7 times the epochs": ("train.dens=null", "trainer.max_epochs=170"),
            "with DeNS": (),
        },
    ),
    "hessian": (
        "water_hessian",
        {
            **{
                f"{frames} frames, {arm}": (
                    f"data.split.train={frames}",
                    f"trainer.max_epochs={epochs}",
                    *words,
                )
                for frames, epochs in ((4, 1000), (8, 500))
                for arm, words in (("without", WITHOUT_HESSIANS), ("with Hessians", ()))
            },
            "4 frames, without, twice the epochs": ("trainer.max_epochs=2000", *WITHOUT_HESSIANS),
        },
    ),
}


def main() -> None:
    """Train every arm with every seed, several at a time; a table, and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    options = parser.parse_args()
    config, arms = EXPERIMENTS[options.experiment]
    jobs = [(arm, seed) for seed in options.seeds for arm in arms]
    rows: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory() as folder:
        train = partial(run, config, arms, options.data, Path(folder))
        with multiprocessing.get_context("spawn").Pool(options.processes, maxtasksperchild=1) as pool:
            for arm, figures in pool.imap_unordered(train, jobs):
                rows[arm].append(figures)
                print(f"{arm}, seed {figures['seed']}: {told(figures)}", flush=True)
                if options.output:
                    options.output.write_text(json.dumps(rows, indent=2) + "\n")
    print()
    for arm, found in rows.items():
        print(f"{arm:40}{summary(found)}")


def run(
    config: str, arms: dict[str, tuple[str, ...]], data: Path, folder: Path, job: tuple[str, int]
) -> tuple[str, dict[str, float]]:
    """One training: its arm, and the errors of its best weights on the test frames."""
    import torch

    torch.set_num_threads(1)
    from nequip.config.compose import compose
    from nequip.config.locate import named_config
    from nequip.model.checkpoint import load
    from nequip.train.evaluation import evaluate
    from nequip.train.run import run_training

    arm, seed = job
    words = [f"data.file={data.resolve()}", f"seed={seed}", f"data.split.seed={seed}"]
    words += [f"output_dir={folder / f'{list(arms).index(arm)}-{seed}'}", "trainer.logging.progress=off"]
    begun = time.perf_counter()
    outcome = run_training(compose(named_config(config), [*words, *arms[arm]]))
    seconds = time.perf_counter() - begun
    evaluation = evaluate(load(outcome.best), outcome.data.test, batch_size=50)
    errors: dict[str, Any] = {name: evaluation.errors[name] for name in ERRORS if name in evaluation.errors}
    return arm, {"seed": seed, "seconds": seconds, **errors}


def told(figures: dict[str, float]) -> str:
    """Errors of one run."""
    words = [
        f"{title} {figures[name] * unit:.2f}" for name, (title, unit) in ERRORS.items() if name in figures
    ]
    return "; ".join([*words, f"{figures['seconds']:.0f} s"])


def summary(found: list[dict[str, float]]) -> str:
    """Means over seeds, and deviations."""
    words = []
    for name, (title, unit) in ERRORS.items():
        values = [unit * figures[name] for figures in found if name in figures]
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            words.append(f"{title} {statistics.mean(values):.2f} ± {deviation:.2f}")
    return "; ".join([*words, f"{statistics.mean(figures['seconds'] for figures in found):.0f} s"])


if __name__ == "__main__":
    main()
