"""`nequip md`: molecular dynamics at constant energy with a saved potential."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from nequip.cli.computation import add_computation_options
from nequip.cli.frames import make_folder
from nequip.cli.structures import add_structure_options, open_structure

if TYPE_CHECKING:
    from nequip.calculators.dynamics import NVERecord, NVESettings

EXAMPLES = """\
examples:
  nequip md best.nequip start.xyz
  nequip md best.nequip start.xyz --index -1 --temperature 500 --steps 10000 --timestep 1
  nequip md best.nequip set:sample_methanol --output outputs/md

STRUCTURE is anything that ASE reads, or set:NAME; of several frames, --index says which.
Velocities are drawn at the temperature given; a structure that was relaxed first ends near half of it.
"""
FILES = """\
In {folder}:
  nve.xyz             the trajectory
  nve.csv             time, energies and temperature
  energies.png, total_energy.png, temperature.png
  md.json             settings, drift and fluctuation"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.description = "Molecular dynamics (NVE, velocity Verlet) through ASE: does the energy stay?"
    parser.epilog = EXAMPLES
    add_structure_options(parser, "STRUCTURE", "where to start")
    parser.add_argument("--temperature", type=float, default=300.0, metavar="K", help="of the start (300)")
    parser.add_argument("--steps", type=int, default=2000, metavar="N", help="(2000)")
    parser.add_argument("--timestep", type=float, default=0.5, metavar="FS", help="in femtoseconds (0.5)")
    parser.add_argument("--every", type=int, default=10, metavar="N", help="steps between records (10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the velocities (0)")
    parser.add_argument("-o", "--output", type=Path, default=Path("md"), metavar="DIR", help="(md)")
    add_computation_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Run, with a line now and then, and write what was recorded."""
    from nequip.calculators import NequIPCalculator
    from nequip.calculators.dynamics import run_nve
    from nequip.errors import ModelError
    from nequip.interop import load

    settings = _settings(options)
    atoms = open_structure(options)
    model = options.model if options.head is None else load(options.model, head=options.head)
    atoms.calc = NequIPCalculator(model, device=options.device, dtype=options.dtype, backend=options.backend)
    if atoms.calc.potential.card.energy_only:
        raise ModelError(f"{options.model} predicts energies only: dynamics needs a potential with forces.")
    atoms.get_forces()  # refuses a structure that the potential cannot take before anything is written
    folder = make_folder(options.output)
    formula = atoms.get_chemical_formula()
    print(f"{formula} at {settings.temperature:g} K: {settings.steps} steps of {settings.timestep:g} fs\n")
    print("      step   time (ps)   T (K)   total energy since the start (meV/atom)")
    record = run_nve(atoms, settings, folder / "nve.xyz", report=_Lines(settings.steps))
    _write(record, settings, folder)
    print(
        f"\nMean temperature {record.temperature.mean():.0f} K; total energy: drift "
        f"{1000 * record.drift:.3g} meV/atom/ps, fluctuation {1000 * record.fluctuation:.3g} meV/atom.\n"
    )
    print(FILES.format(folder=folder))


class _Lines:
    """About ten lines along the run."""

    def __init__(self, steps: int):
        self.between, self.next = max(steps // 10, 1), 0

    def __call__(self, step: int, record: NVERecord) -> None:
        if step < self.next:
            return
        self.next = step + self.between
        change = 1000 * (record.total[-1] - record.total[0]) / record.num_atoms
        time, temperature = record.time[-1] / 1000, record.temperature[-1]
        print(f"{step:10d}{time:12.3f}{temperature:8.0f}{change:13.4f}", flush=True)


def _settings(options: argparse.Namespace) -> NVESettings:
    from nequip.calculators.dynamics import NVESettings

    return NVESettings(
        temperature=options.temperature,
        steps=options.steps,
        timestep=options.timestep,
        every=options.every,
        seed=options.seed,
    )


def _write(record: NVERecord, settings: NVESettings, folder: Path) -> None:
    from dataclasses import asdict

    import numpy as np

    from nequip.plotting.dynamics import energy_plot, temperature_plot, total_energy_plot

    for plot in (energy_plot(record), total_energy_plot(record), temperature_plot(record)):
        (folder / f"{plot.name}.png").write_bytes(plot.png)
    columns = [record.time, record.potential, record.kinetic, record.total, record.temperature]
    header = "time_fs,potential_eV,kinetic_eV,total_eV,temperature_K"
    np.savetxt(
        folder / "nve.csv", np.stack(columns, 1), fmt="%.10g", delimiter=",", header=header, comments=""
    )
    summary = asdict(settings) | {
        "num_atoms": record.num_atoms,
        "mean_temperature": float(record.temperature.mean()),
        "drift_eV_per_atom_ps": record.drift,
        "fluctuation_eV_per_atom": record.fluctuation,
    }
    (folder / "md.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
