"""Energies and temperature along molecular dynamics at constant energy."""

from __future__ import annotations

from matplotlib.axes import Axes

from nequip.calculators.dynamics import NVERecord
from nequip.plotting.style import INK, Plot, color, finish, new_axes, significant
from nequip.units import MEV

WIDE = (7.2, 3.6)  # inches


def energy_plot(record: NVERecord) -> Plot:
    """Kinetic, potential and total energy against time, each from where it began."""
    time = record.time / 1000
    axes = new_axes("time (ps)", "energy since the start (meV/atom)", WIDE)
    series = {"potential": record.potential, "kinetic": record.kinetic, "total": record.total}
    for number, (name, energy) in enumerate(series.items()):
        values = (energy - energy[0]) * MEV / record.num_atoms
        axes.plot(time, values, color=color(number), linewidth=2.0 if name == "total" else 1.2, label=name)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, fontsize=10, frameon=False, labelcolor=INK
    )
    return finish(axes, "energies", "Energies along the trajectory, each from where it began.")


def total_energy_plot(record: NVERecord) -> Plot:
    """The total energy alone, large enough to see its fluctuation and its drift."""
    axes = new_axes("time (ps)", "total energy since the start (meV/atom)", WIDE)
    values = (record.total - record.total[0]) * MEV / record.num_atoms
    axes.plot(record.time / 1000, values, color=color(2), linewidth=1.2)
    _title(
        axes,
        f"drift {significant(record.drift * MEV)} meV/atom/ps, "
        f"fluctuation {significant(record.fluctuation * MEV)} meV/atom",
    )
    return finish(axes, "total_energy", "Total energy along the trajectory.")


def temperature_plot(record: NVERecord) -> Plot:
    """Instantaneous temperature against time."""
    axes = new_axes("time (ps)", "temperature (K)", WIDE)
    axes.plot(record.time / 1000, record.temperature, color=color(1), linewidth=1.2)
    _title(axes, f"mean {significant(float(record.temperature.mean()))} K")
    return finish(axes, "temperature", "Instantaneous temperature along the trajectory.")


def _title(axes: Axes, text: str) -> None:
    """Above the axes, where no curve runs."""
    axes.set_title(text, loc="right", fontsize=10, color=INK)
