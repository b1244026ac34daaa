"""How our figures look, and how they become PNG: no pyplot, no global state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nequip.data.frame import FloatArray

# Okabe and Ito's palette for all kinds of sight, darkened where it was pale; types take them in order.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B58900", "#56B4E9", "#7A5195", "#4D4D4D")
INK, FAINT = "#222222", "#D8D8D8"
SIZE = (4.8, 4.2)  # inches
DPI = 170


@dataclass(frozen=True)
class Plot:
    """A finished figure: its file name without suffix, a caption, and the PNG itself."""

    name: str
    caption: str
    png: bytes


def color(index: int) -> str:
    """The colour of a type or a curve."""
    return COLORS[index % len(COLORS)]


def new_axes(xlabel: str, ylabel: str, size: tuple[float, float] = SIZE) -> Axes:
    """Axes of a figure of their own."""
    return decorate(new_figure(size).add_subplot(), xlabel, ylabel)


def new_figure(size: tuple[float, float]) -> Figure:
    """An empty figure of `size` in inches, drawn without a screen."""
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def decorate(axes: Axes, xlabel: str, ylabel: str) -> Axes:
    """Labels, ticks and a faint grid."""
    axes.set_xlabel(xlabel, fontsize=11, color=INK)
    axes.set_ylabel(ylabel, fontsize=11, color=INK)
    axes.tick_params(labelsize=10, color=INK, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def log_scale(axes: Axes, low: float, high: float) -> None:
    """A logarithmic y axis with plain numbers at 1, 2 and 5, or at the decades of a wide range."""
    axes.set_yscale("log")
    steps = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def legend(axes: Axes, location: str = "best") -> None:
    """A legend without a frame that hides nothing."""
    axes.legend(loc=location, fontsize=10, frameon=True, framealpha=0.85, edgecolor="none", labelcolor=INK)


def note(axes: Axes, text: str, corner: str = "upper left") -> None:
    """A few words of text in a corner."""
    left, top = "left" in corner, "upper" in corner
    axes.text(
        0.03 if left else 0.97,
        0.97 if top else 0.03,
        text,
        transform=axes.transAxes,
        fontsize=10,
        color=INK,
        ha="left" if left else "right",
        va="top" if top else "bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
    )


def finish(axes: Axes, name: str, caption: str) -> Plot:
    """The figure of `axes` as PNG."""
    assert isinstance(axes.figure, Figure)
    buffer = BytesIO()
    axes.figure.savefig(buffer, format="png", metadata={"Software": None})
    return Plot(name, caption, buffer.getvalue())


def unit_for(values: FloatArray, unit: str) -> tuple[float, str]:
    """A factor and a unit that keep numbers readable: eV above 1, else meV."""
    largest = float(np.max(np.abs(values), initial=0.0))
    return (1.0, unit) if largest >= 1.0 else (1000.0, f"m{unit}")


def significant(value: float, digits: int = 3) -> str:
    """A number with about `digits` digits and without an exponent where that is readable."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4 or magnitude > 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - magnitude, 0)}f}"
