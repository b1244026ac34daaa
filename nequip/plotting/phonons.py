"""Bands, density of states and thermal properties of a crystal; spectra of a molecule."""

from __future__ import annotations

from collections.abc import Sequence

from nequip.data.frame import FloatArray
from nequip.phonons.bands import Line
from nequip.phonons.dos import DensityOfStates, ThermalProperties
from nequip.plotting.style import FAINT, INK, Plot, color, finish, legend, new_axes

WIDE = (7.2, 4.2)  # inches
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def band_plot(lines: Sequence[Line]) -> Plot:
    """Frequencies along the path; unstable modes lie below zero."""
    axes = new_axes("", "frequency (THz)", WIDE)
    for line in lines:
        axes.plot(line.distance, line.frequencies, color=color(0), linewidth=1.2)
    places, labels = _ticks(lines)
    for place in places:
        axes.axvline(place, color=FAINT, linewidth=0.8, zorder=0)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.grid(False, axis="x")
    axes.set_xticks(places, labels)
    axes.set_xlim(places[0], places[-1])
    return finish(axes, "bands", "Phonon bands along the lines between points of high symmetry.")


def _ticks(lines: Sequence[Line]) -> tuple[list[float], list[str]]:
    """Where segments meet; where the path jumps, both names."""
    places, labels = [float(lines[0].distance[0])], [_name(lines[0].start)]
    for line in lines:
        if _name(line.start) != labels[-1]:
            labels[-1] += f"|{_name(line.start)}"
        places.append(float(line.distance[-1]))
        labels.append(_name(line.end))
    return places, labels


def _name(label: str) -> str:
    letter, _, number = label.replace("GAMMA", "Γ").partition("_")
    return letter + number.translate(SUBSCRIPTS)


def dos_plot(dos: DensityOfStates) -> Plot:
    """The density of states, in total and by element."""
    axes = new_axes("frequency (THz)", "states per THz and cell", WIDE)
    axes.fill_between(dos.frequency, dos.total, color=FAINT, label="total")
    for index, (name, part) in enumerate(dos.by_element.items()):
        axes.plot(dos.frequency, part, color=color(index), linewidth=1.4, label=name)
    axes.set_xlim(dos.frequency[0], dos.frequency[-1])
    axes.set_ylim(bottom=0)
    legend(axes)
    return finish(axes, "dos", "Density of vibrational states, and what each element has of it.")


def thermal_plot(thermal: ThermalProperties) -> Plot:
    """Heat capacity, entropy and free energy by temperature."""
    axes = new_axes("temperature (K)", "per mole of cells", WIDE)
    curves = {
        "heat capacity (J/K)": thermal.heat_capacity,
        "entropy (J/K)": thermal.entropy,
        "free energy (kJ)": thermal.free_energy,
    }
    for index, (name, values) in enumerate(curves.items()):
        axes.plot(thermal.temperature, values, color=color(index), linewidth=1.4, label=name)
    axes.set_xlim(thermal.temperature[0], thermal.temperature[-1])
    legend(axes)
    return finish(axes, "thermal", "Thermal properties of the harmonic crystal at constant volume.")


def spectrum_plot(
    name: str, unit: str, sticks: tuple[FloatArray, FloatArray], curve: tuple[FloatArray, FloatArray]
) -> Plot:
    """Sticks at the stable modes, on the left axis, and the broadened spectrum, on the right.

    Args:
        name: "infrared" or "raman".
        unit: of the sticks.
        sticks: frequencies in cm⁻¹ and intensities.
        curve: frequencies in cm⁻¹ and the spectrum, in `unit` per cm⁻¹.
    """
    frequencies, sizes = sticks
    stable = frequencies > 0
    axes = new_axes("wavenumber (cm⁻¹)", f"sticks ({unit})", WIDE)
    axes.vlines(frequencies[stable], 0, sizes[stable], color=color(1), linewidth=1.6)
    axes.set_ylim(0, 1.1 * float(sizes[stable].max(initial=0.0)) or 1.0)
    axes.set_xlim(curve[0][0], curve[0][-1])
    other = axes.twinx()
    other.plot(*curve, color=color(0), linewidth=1.2)
    other.set_ylabel(f"broadened ({unit} per cm⁻¹)", fontsize=11, color=INK)
    other.set_ylim(0, 1.1 * float(curve[1].max(initial=0.0)) or 1.0)
    return finish(axes, name, "Intensities of the modes, and the spectrum of broadened lines.")
