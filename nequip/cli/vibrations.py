"""`nequip vibrations`: normal modes and thermochemistry of a molecule."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from nequip.cli.computation import add_computation_options
from nequip.cli.frames import make_folder
from nequip.cli.structures import (
    add_rest_options,
    add_structure_options,
    open_calculator,
    open_structure,
)

if TYPE_CHECKING:
    from nequip.calculators import NequIPCalculator
    from nequip.phonons.spectra import Spectra
    from nequip.phonons.vibrations import Vibrations

EXAMPLES = """\
examples:
  nequip-vibrations best.nequip water.xyz
  nequip-vibrations best.nequip oxygen.xyz --spin 1 --temperature 500 --pressure 1e5

The molecule is relaxed first. A mode of negative frequency is one along which the energy falls.
A potential trained with model.electric_field gives infrared and Raman spectra too.
"""
FILES = """
In {folder}:
  relaxed.xyz         the molecule at rest
  modes/mode_N.xyz    one period of each mode, to look at
  vibrations.csv      frequencies and symmetry
  vibrations.json     the numbers above"""
SPECTRA_FILES = """\
  spectra.csv         infrared and Raman, broadened
  infrared.png        the same, plotted
  raman.png"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.description = "Vibrations of a molecule: frequencies, modes, symmetry, thermochemistry."
    parser.epilog = EXAMPLES
    add_structure_options(parser, "MOLECULE", "the molecule")
    add_rest_options(parser)
    parser.add_argument("--temperature", type=float, default=298.15, metavar="K", help="(298.15)")
    parser.add_argument("--pressure", type=float, default=101325.0, metavar="PA", help="(101325)")
    parser.add_argument("--spin", type=float, default=0.0, metavar="S", help="total spin, for entropy (0)")
    parser.add_argument("-o", "--output", type=Path, default=Path("vibrations"), metavar="DIR")
    parser.add_argument(
        "--width",
        type=float,
        default=10.0,
        metavar="CM",
        help="of lines in spectra at half height, cm⁻¹ (10)",
    )
    add_computation_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Relax, differentiate, and write what was found."""
    from nequip.errors import DataError
    from nequip.phonons.relax import relax
    from nequip.phonons.vibrations import thermochemistry, vibrations

    atoms = open_structure(options)
    if atoms.pbc.any():
        raise DataError(
            f"{options.structure} is periodic, not a molecule: nequip-phonons is for crystals; of a molecule "
            "in a box set pbc to false."
        )
    calculator = open_calculator(options)
    atoms.calc = calculator
    atoms.get_forces()  # refuses a structure that the potential cannot take before anything is written
    folder = make_folder(options.output)
    if not options.no_relax:
        atoms = relax(atoms, options.max_force)
    energy = atoms.get_potential_energy()
    found = vibrations(atoms, calculator.get_hessian(atoms, options.memory))
    seen = _spectra(found, calculator)
    print(_table(found, seen))
    numbers = {"energy_eV": energy, "zero_point_energy_eV": found.zero_point_energy}
    if found.unstable:
        print(f"\n{found.unstable} modes are unstable: this structure is no minimum of the energy.")
    else:
        thermo = thermochemistry(found, energy, options.temperature, options.pressure, options.spin)
        numbers |= {f"{name}_eV{'_K' if name == 'entropy' else ''}": value for name, value in thermo.items()}
    print(f"\nat {options.temperature:g} K and {options.pressure:g} Pa, in eV (entropy: eV/K)")
    for name, value in numbers.items():
        print(f"  {name.partition('_eV')[0].replace('_', ' '):20}{value:14.6f}")
    _write(found, seen, numbers, folder)
    print(FILES.format(folder=folder))
    if seen is not None:
        _write_spectra(seen, options.width, folder)
        print(SPECTRA_FILES)


def _spectra(found: Vibrations, calculator: NequIPCalculator) -> Spectra | None:
    """None where the potential knows no electric field."""
    from nequip.phonons.spectra import spectra

    if "dipole" not in calculator.implemented_properties:
        return None
    return spectra(found, calculator.get_born_charges(found.atoms), calculator.get_raman_tensors(found.atoms))


def _table(found: Vibrations, seen: Spectra | None) -> str:
    sized = "" if seen is None else "IR (km/mol)   Raman (Å⁴/amu)   "
    lines = [
        f"{found.atoms.get_chemical_formula()}, point group {found.group.name}, "
        f"symmetry number {found.group.rotational}\n",
        f"mode   frequency (cm⁻¹)   {sized}irrep   seen in",
    ]
    for number, (frequency, symmetry) in enumerate(zip(found.frequencies, found.symmetries, strict=True)):
        by = ["infrared"] * symmetry.infrared + ["Raman"] * symmetry.raman
        sizes = "" if seen is None else f"{seen.infrared[number]:14.3f}{seen.raman[number]:17.3f}"
        lines.append(f"{number:4}{frequency:19.2f}{sizes}   {symmetry.irrep:8}{', '.join(by) or '-'}")
    return "\n".join(lines)


def _write(found: Vibrations, seen: Spectra | None, numbers: dict[str, float], folder: Path) -> None:
    from ase.io import write

    from nequip.phonons.vibrations import trajectory

    modes = folder / "modes"
    modes.mkdir(exist_ok=True)
    rest = found.atoms.copy()
    write(folder / "relaxed.xyz", rest, format="extxyz")
    rows = [
        "mode,frequency_cm-1,irrep,infrared,raman" + ("" if seen is None else ",infrared_km_mol,raman_A4_amu")
    ]
    for number, (frequency, symmetry) in enumerate(zip(found.frequencies, found.symmetries, strict=True)):
        write(modes / f"mode_{number}.xyz", trajectory(found, number), format="extxyz")
        active = f"{int(symmetry.infrared)},{int(symmetry.raman)}"
        sizes = "" if seen is None else f",{seen.infrared[number]:.6f},{seen.raman[number]:.6f}"
        rows.append(f"{number},{frequency:.6f},{symmetry.irrep},{active}{sizes}")
    (folder / "vibrations.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    summary = {
        "point_group": found.group.name,
        "symmetry_number": found.group.rotational,
        "frequencies_cm-1": found.frequencies.tolist(),
        **numbers,
    }
    if seen is not None:
        summary |= {"infrared_km_mol": seen.infrared.tolist(), "raman_A4_amu": seen.raman.tolist()}
    (folder / "vibrations.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _write_spectra(seen: Spectra, width: float, folder: Path) -> None:
    from nequip.phonons.spectra import broadened, spectral_grid
    from nequip.plotting.phonons import spectrum_plot

    grid = spectral_grid(seen.frequencies, width)
    infrared = broadened(seen.frequencies, seen.infrared, grid, width)
    raman = broadened(seen.frequencies, seen.raman, grid, width)
    rows = ["wavenumber_cm-1,infrared_km_mol_per_cm-1,raman_A4_amu_per_cm-1"]
    rows += [f"{x:.4f},{ir:.8g},{ra:.8g}" for x, ir, ra in zip(grid, infrared, raman, strict=True)]
    (folder / "spectra.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    curves = (("infrared", "km/mol", seen.infrared, infrared), ("raman", "Å⁴/amu", seen.raman, raman))
    for name, unit, sticks, curve in curves:
        plot = spectrum_plot(name, unit, (seen.frequencies, sticks), (grid, curve))
        (folder / f"{name}.png").write_bytes(plot.png)
