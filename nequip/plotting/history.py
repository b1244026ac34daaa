"""Learning curves from the `metrics.csv` of a run."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from nequip.data.frame import FloatArray
from nequip.plotting.style import Plot, color, finish, legend, log_scale, new_axes
from nequip.units import MEV

Curve = tuple[FloatArray, FloatArray]  # epochs and values
History = dict[str, Curve]

# Name of the metric -> heading and factor; each becomes one plot with the curves of all stages.
METRICS = {
    "loss": ("loss", 1.0),
    "energy_per_atom_mae": ("MAE of energy (meV/atom)", MEV),
    "forces_mae": ("MAE of forces (meV/Å)", MEV),
    "stress_mae": ("MAE of stress (meV/Å³)", MEV),
}
STAGES = {"train": "training", "val": "validation", "test": "test", "replay": "replay"}


def read_history(path: str | Path) -> History:
    """Every column against `epoch`, without cells that are empty or not finite."""
    points: dict[str, list[tuple[float, float]]] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, cell in row.items():
                if cell and name != "epoch" and math.isfinite(float(cell)):
                    points.setdefault(name, []).append((float(row["epoch"]), float(cell)))
    return {name: _curve(pairs) for name, pairs in points.items()}


def _curve(pairs: list[tuple[float, float]]) -> Curve:
    table = np.array(pairs)
    return table[:, 0], table[:, 1]


def learning_curves(history: History) -> list[Plot]:
    """Loss, errors and learning rate over epochs, as far as they were recorded."""
    plots = [
        _plot(metric, heading, curves)
        for metric, (heading, factor) in METRICS.items()
        if (curves := _stages(history, metric, factor))
    ]
    if "lr" in history:
        plots.append(_plot("rate", "learning rate", {"lr": history["lr"]}))
    return plots


def _stages(history: History, metric: str, factor: float) -> History:
    """The curves of one metric by the words of the legend."""
    return {
        word: (epochs, values * factor)
        for stage, word in STAGES.items()
        for epochs, values in [history.get(f"{stage}/{metric}", (np.zeros(0), np.zeros(0)))]
        if len(values) > 1
    }


def _plot(name: str, heading: str, curves: History) -> Plot:
    axes = new_axes("epoch", heading)
    for number, (label, (epochs, values)) in enumerate(curves.items()):
        marker = "o" if len(epochs) <= 30 else None
        axes.plot(
            epochs, values, color=color(number), linewidth=1.5, marker=marker, markersize=3, label=label
        )
    everything = np.concatenate([values for _, values in curves.values()])
    if (everything > 0).all():
        log_scale(axes, float(everything.min()), float(everything.max()))
    if len(curves) > 1:
        legend(axes, "upper right")
    return finish(axes, f"learning_{name}", f"{heading[0].upper()}{heading[1:]} over epochs.")
