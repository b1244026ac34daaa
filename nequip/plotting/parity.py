"""Predicted against reference values, and how the errors are distributed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from nequip.data.frame import FloatArray
from nequip.plotting.style import INK, Plot, color, finish, legend, new_axes, note, significant, unit_for
from nequip.train.evaluation import Evaluation
from nequip.units import MEV

IntArray = NDArray[np.int64]

# From here on single points would hide one another: draw how many there are instead.
MANY_POINTS = 20_000
PIXELS = 240
BINS = 81


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
    relative: str = ""  # what the numbers on the axes are relative to

    @property
    def error(self) -> FloatArray:
        return self.predicted - self.reference


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
        relative="composition",
    )


def _forces(evaluation: Evaluation) -> Pairs:
    reference, predicted = evaluation.reference.forces, evaluation.predicted.forces
    known = np.isfinite(reference) & np.isfinite(predicted)
    kind = np.broadcast_to(evaluation.types[:, None], reference.shape)[known]
    names = evaluation.card.type_names
    return Pairs("forces", "force components", "eV/Å", reference[known], predicted[known], kind, names)


def _stresses(evaluation: Evaluation) -> Pairs:
    reference, predicted = evaluation.reference.stress, evaluation.predicted.stress
    known = np.isfinite(reference) & np.isfinite(predicted)
    shear = np.broadcast_to(1 - np.eye(3, dtype=np.int64), reference.shape)[known]
    names = ("xx, yy, zz", "xy, xz, yz")
    return Pairs("stress", "stress components", "eV/Å³", reference[known], predicted[known], shear, names)


def _parity(pairs: Pairs) -> Plot:
    scale, unit = unit_for(pairs.reference, pairs.unit)
    reference, predicted = pairs.reference * scale, pairs.predicted * scale
    less = f" − {pairs.relative}" if pairs.relative else ""
    axes = new_axes(f"reference {pairs.title}{less} ({unit})", f"predicted ({unit})")
    both = np.concatenate([reference, predicted])
    low, high = float(both.min()), float(both.max())
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=INK, linewidth=0.8, zorder=1)
    draw = _draw_points if len(reference) <= MANY_POINTS else _draw_density
    draw(axes, reference, predicted, pairs.kind, limits)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.locator_params(nbins=6)
    _key(axes, pairs)
    error_unit = f"m{pairs.unit}"
    mae, rmse = np.abs(pairs.error).mean() * MEV, np.sqrt((pairs.error**2).mean()) * MEV
    note(axes, f"MAE {significant(mae)} {error_unit}\nRMSE {significant(rmse)} {error_unit}")
    caption = f"{pairs.title.capitalize()}, predicted against reference ({len(reference):,} values)."
    return finish(axes, f"parity_{pairs.name}", caption)


def _draw_points(
    axes: Axes, reference: FloatArray, predicted: FloatArray, kind: IntArray, _limits: tuple[float, float]
) -> None:
    # In shuffled order no type lies on top of the others.
    order = np.random.default_rng(0).permutation(len(reference))
    colors = np.array([to_rgb(color(k)) for k in range(kind.max() + 1)])[kind[order]]
    size = float(np.clip(6000 / len(order), 4, 22))
    axes.scatter(reference[order], predicted[order], s=size, c=colors, alpha=0.65, linewidths=0, zorder=2)


def _draw_density(
    axes: Axes, reference: FloatArray, predicted: FloatArray, kind: IntArray, limits: tuple[float, float]
) -> None:
    """Cells as opaque as they are full, in the mean colour of what is in them."""
    counts = np.stack(
        [
            np.histogram2d(predicted[kind == k], reference[kind == k], bins=PIXELS, range=(limits, limits))[0]
            for k in range(kind.max() + 1)
        ]
    )
    total = counts.sum(0)
    palette = np.array([to_rgb(color(k)) for k in range(len(counts))])
    image = np.zeros((PIXELS, PIXELS, 4))
    image[..., :3] = np.tensordot(counts, palette, axes=(0, 0)) / np.maximum(total, 1)[..., None]
    image[..., 3] = np.where(total > 0, 0.25 + 0.75 * np.log1p(total) / np.log1p(total.max()), 0)
    axes.imshow(image, extent=(*limits, *limits), origin="lower", interpolation="nearest", zorder=2)


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
    edges = np.linspace(-reach, reach, _num_bins(len(error)) + 1)
    present = np.unique(pairs.kind)
    split = 1 < len(present) <= 8
    for k in present if split else present[:1]:
        values = error[pairs.kind == k] if split else error
        share = 100 * np.histogram(values, edges)[0] / len(values)
        label = pairs.kinds[k] or "no group"
        axes.stairs(share, edges, color=color(k), linewidth=1.5, label=label)
        axes.stairs(share, edges, color=color(k), fill=True, alpha=0.12)
    if split:
        legend(axes, "upper right")
    axes.set(xlim=(-reach, reach))
    axes.set_ylim(bottom=0)
    axes.axvline(0, color=INK, linewidth=0.8)
    note(axes, f"mean {significant(float(error.mean()))}\nstd {significant(float(error.std()))}")
    caption = f"Errors (predicted − reference) of {pairs.title}; 99.5 % of them lie in the range shown."
    return finish(axes, f"errors_{pairs.name}", caption)


def _num_bins(count: int) -> int:
    """Odd, so that zero lies in the middle of a bin; few for few values."""
    return min(BINS, 2 * int(np.sqrt(count)) + 5)
