"""Predicted against reference values, and how the errors are distributed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from nequip.data.frame import FloatArray
from nequip.plotting.style import (
    INK,
    Plot,
    color,
    decorate,
    finish,
    legend,
    new_axes,
    new_figure,
    note,
    significant,
    unit_for,
)
from nequip.train.evaluation import Evaluation
from nequip.units import MEV

IntArray = NDArray[np.int64]

# From here on single points would hide one another: draw how many there are instead.
MANY_POINTS = 20_000
PIXELS = 240
MAX_BINS = 81
# Histograms of fewer values than this say nothing by themselves.
FEW_VALUES = 30


@dataclass(frozen=True)
class Pairs:
    """Reference and predicted numbers of one quantity, without the missing ones."""

    name: str  # of the files
    title: str
    unit: str  # starts with "eV"
    reference: FloatArray
    predicted: FloatArray
    kind: IntArray  # index into kinds
    kinds: tuple[str, ...]
    reference_label: str

    @property
    def error(self) -> FloatArray:
        return self.predicted - self.reference


class Cloud(NamedTuple):
    """Points of several kinds."""

    x: FloatArray
    y: FloatArray
    kind: IntArray


def quantities(evaluation: Evaluation) -> list[Pairs]:
    """Energies per atom, forces and stresses, as far as there are labels and predictions."""
    found = [_energies(evaluation), _forces(evaluation), _stresses(evaluation)]
    return [pairs for pairs in found if len(pairs.reference)]


def parity_plots(evaluation: Evaluation) -> list[Plot]:
    """One parity plot for each quantity."""
    return [_parity(pairs) for pairs in quantities(evaluation)]


def error_plots(evaluation: Evaluation) -> list[Plot]:
    """One histogram of errors for each quantity."""
    return [_histogram(pairs) for pairs in quantities(evaluation)]


def _energies(evaluation: Evaluation) -> Pairs:
    """Energies per atom above the part that the composition alone explains.

    That part is the same for both sides: least squares of the reference on the atom counts.
    """
    reference, predicted = evaluation.reference.energy, evaluation.predicted.energy
    known = np.flatnonzero(np.isfinite(reference) & np.isfinite(predicted) & (evaluation.num_atoms > 0))
    frame = np.repeat(np.arange(evaluation.num_frames), evaluation.num_atoms)
    counts = np.zeros((evaluation.num_frames, len(evaluation.card.type_names)))
    np.add.at(counts, (frame, evaluation.types), 1)
    atoms = evaluation.num_atoms[known]
    shares = counts[known] / atoms[:, None]
    fit = np.linalg.lstsq(shares, reference[known] / atoms, rcond=1e-10)[0] if len(known) else 0.0
    baseline = shares @ fit if len(known) else 0.0
    return Pairs(
        "energy",
        "energy per atom",
        "eV/atom",
        reference[known] / atoms - baseline,
        predicted[known] / atoms - baseline,
        evaluation.group[known],
        evaluation.group_names,
        "reference energy − composition fit",
    )


def _forces(evaluation: Evaluation) -> Pairs:
    reference, predicted = evaluation.reference.forces, evaluation.predicted.forces
    known = np.isfinite(reference) & np.isfinite(predicted)
    kind = np.broadcast_to(evaluation.types[:, None], reference.shape)[known]
    names = evaluation.card.type_names
    label = "reference force components"
    return Pairs("forces", "force components", "eV/Å", reference[known], predicted[known], kind, names, label)


def _stresses(evaluation: Evaluation) -> Pairs:
    reference, predicted = evaluation.reference.stress, evaluation.predicted.stress
    known = np.isfinite(reference) & np.isfinite(predicted)
    shear = np.broadcast_to(1 - np.eye(3, dtype=np.int64), reference.shape)[known]
    names = ("xx, yy, zz", "xy, xz, yz")
    label = "reference stress components"
    return Pairs(
        "stress", "stress components", "eV/Å³", reference[known], predicted[known], shear, names, label
    )


def _parity(pairs: Pairs) -> Plot:
    """Predicted against reference, and below it the errors, which a good potential hides above."""
    scale, unit = unit_for(pairs.reference, pairs.unit)
    reference, predicted, error = pairs.reference * scale, pairs.predicted * scale, pairs.error * MEV
    axes, strip = _axes_with_strip(pairs, unit)
    limits = _limits(np.concatenate([reference, predicted]))
    axes.plot(limits, limits, color=INK, linewidth=0.8, zorder=1)
    _draw(axes, Cloud(reference, predicted, pairs.kind), (limits, limits))
    axes.set(xlim=limits, ylim=limits)
    reach = float(np.quantile(np.abs(error), 0.999)) * 1.15 or 1.0
    strip.axhline(0, color=INK, linewidth=0.8, zorder=1)
    _draw(strip, Cloud(reference, error, pairs.kind), (limits, (-reach, reach)))
    strip.set(xlim=limits, ylim=(-reach, reach))
    _key(axes, pairs)
    mae, rmse = np.abs(error).mean(), np.sqrt((error**2).mean())
    note(axes, f"MAE {significant(mae)} m{pairs.unit}\nRMSE {significant(rmse)} m{pairs.unit}")
    caption = f"{pairs.title.capitalize()}, predicted against reference ({len(reference):,} values)."
    return finish(axes, f"parity_{pairs.name}", caption)


def _axes_with_strip(pairs: Pairs, unit: str) -> tuple[Axes, Axes]:
    figure = new_figure((4.8, 5.7))
    grid = figure.add_gridspec(2, 1, height_ratios=(1.0, 0.27))
    axes, strip = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    decorate(axes, "", f"predicted ({unit})")
    decorate(strip, f"{pairs.reference_label} ({unit})", f"error\n(m{pairs.unit})")
    axes.tick_params(labelbottom=False)
    for axis in (axes.xaxis, axes.yaxis, strip.xaxis):
        axis.set_major_locator(MaxNLocator(6))
    strip.yaxis.set_major_locator(MaxNLocator(3))
    return axes, strip


def _limits(values: FloatArray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _draw(axes: Axes, cloud: Cloud, limits: tuple[tuple[float, float], tuple[float, float]]) -> None:
    if len(cloud.x) <= MANY_POINTS:
        _draw_points(axes, cloud)
    else:
        _draw_density(axes, cloud, limits)


def _draw_points(axes: Axes, cloud: Cloud) -> None:
    # In shuffled order no type lies on top of the others.
    order = np.random.default_rng(0).permutation(len(cloud.x))
    colors = np.array([to_rgb(color(k)) for k in range(cloud.kind.max() + 1)])[cloud.kind[order]]
    size = float(np.clip(6000 / len(order), 4, 22))
    axes.scatter(cloud.x[order], cloud.y[order], s=size, c=colors, alpha=0.65, linewidths=0, zorder=2)


def _draw_density(axes: Axes, cloud: Cloud, limits: tuple[tuple[float, float], tuple[float, float]]) -> None:
    """Cells as opaque as they are full, in the mean colour of what is in them."""
    (left, right), (bottom, top) = limits
    counts = np.stack(
        [
            np.histogram2d(
                cloud.y[cloud.kind == k], cloud.x[cloud.kind == k], bins=PIXELS, range=(limits[1], limits[0])
            )[0]
            for k in range(cloud.kind.max() + 1)
        ]
    )
    total = counts.sum(0)
    palette = np.array([to_rgb(color(k)) for k in range(len(counts))])
    image = np.zeros((PIXELS, PIXELS, 4))
    image[..., :3] = np.tensordot(counts, palette, axes=(0, 0)) / np.maximum(total, 1)[..., None]
    image[..., 3] = np.where(total > 0, 0.4 + 0.6 * np.log1p(total) / np.log1p(total.max()), 0)
    extent = (left, right, bottom, top)
    axes.imshow(image, extent=extent, origin="lower", interpolation="nearest", aspect="auto", zorder=2)


def _key(axes: Axes, pairs: Pairs) -> None:
    """A legend where there is more than one kind, and not too many."""
    present = np.unique(pairs.kind)
    if not 1 < len(present) <= 8:
        return
    for k in present:
        axes.plot([], [], "o", color=color(k), markersize=5, label=pairs.kinds[k] or "no group")
    legend(axes, "lower right")


def _histogram(pairs: Pairs) -> Plot:
    error = pairs.error * MEV
    axes = new_axes(f"error of {pairs.title} (m{pairs.unit})", "share of values (%)")
    reach = float(np.quantile(np.abs(error), 0.995)) or 1.0
    present, counts = np.unique(pairs.kind, return_counts=True)
    split = 1 < len(present) <= 8 and counts.min() >= FEW_VALUES
    edges = np.linspace(-reach, reach, _num_bins(counts.min() if split else len(error)) + 1)
    for k in present if split else present[:1]:
        values = error[pairs.kind == k] if split else error
        share = 100 * np.histogram(values, edges)[0] / len(values)
        label = pairs.kinds[k] or "no group"
        axes.stairs(share, edges, color=color(k), linewidth=1.5, label=label)
        axes.stairs(share, edges, color=color(k), fill=True, alpha=0.12)
    if split:
        legend(axes, "upper right")
    axes.set(xlim=(-reach, reach))
    axes.set_ylim(0, 1.2 * axes.get_ylim()[1])  # room for the words above the bars
    axes.axvline(0, color=INK, linewidth=0.8)
    mean, std = float(error.mean()), float(error.std())
    # Forces of a whole molecule sum to zero, up to rounding that means nothing.
    note(axes, f"mean {significant(mean if abs(mean) > 1e-4 * std else 0.0)}\nstd {significant(std)}")
    caption = f"Errors (predicted − reference) of {pairs.title}; 99.5 % of them lie in the range shown."
    return finish(axes, f"errors_{pairs.name}", caption)


def _num_bins(count: int) -> int:
    """Odd, so that zero lies in the middle of a bin; few for few values."""
    return min(MAX_BINS, 2 * round(2 * count ** (1 / 3)) + 1)
