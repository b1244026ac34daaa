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
    from nequip.phonons.vibrations import Vibrations

EXAMPLES = """\
examples:
  nequip-vibrations best.nequip water.xyz
  nequip-vibrations best.nequip oxygen.xyz --spin 1 --temperature 500 --pressure 1e5

The molecule is relaxed first. A mode of negative frequency is one along which the energy falls.
"""
FILES = """
In {folder}:
  relaxed.xyz         the molecule at rest
  modes/mode_N.xyz    one period of each mode, to look at
  vibrations.csv      frequencies and symmetry
  vibrations.json     the numbers above"""


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
    print(_table(found))
    numbers = {"energy_eV": energy, "zero_point_energy_eV": found.zero_point_energy}
    if found.unstable:
        print(f"\n{found.unstable} modes are unstable: this structure is no minimum of the energy.")
    else:
        thermo = thermochemistry(found, energy, options.temperature, options.pressure, options.spin)
        numbers |= {f"{name}_eV{'_K' if name == 'entropy' else ''}": value for name, value in thermo.items()}
    print(f"\nat {options.temperature:g} K and {options.pressure:g} Pa, in eV (entropy: eV/K)")
    for name, value in numbers.items():
        print(f"  {name.partition('_eV')[0].replace('_', ' '):20}{value:14.6f}")
    _write(found, numbers, folder)
    print(FILES.format(folder=folder))


def _table(found: Vibrations) -> str:
    lines = [
        f"{found.atoms.get_chemical_formula()}, point group {found.group.name}, "
        f"symmetry number {found.group.rotational}\n",
        "mode   frequency (cm⁻¹)   irrep   seen in",
    ]
    for number, (frequency, symmetry) in enumerate(zip(found.frequencies, found.symmetries, strict=True)):
        seen = ["infrared"] * symmetry.infrared + ["Raman"] * symmetry.raman
        lines.append(f"{number:4}{frequency:19.2f}   {symmetry.irrep:8}{', '.join(seen) or '-'}")
    return "\n".join(lines)


def _write(found: Vibrations, numbers: dict[str, float], folder: Path) -> None:
    from ase.io import write

    from nequip.phonons.vibrations import trajectory

    modes = folder / "modes"
    modes.mkdir(exist_ok=True)
    rest = found.atoms.copy()
    write(folder / "relaxed.xyz", rest, format="extxyz")
    rows = ["mode,frequency_cm-1,irrep,infrared,raman"]
    for number, (frequency, symmetry) in enumerate(zip(found.frequencies, found.symmetries, strict=True)):
        write(modes / f"mode_{number}.xyz", trajectory(found, number), format="extxyz")
        seen = f"{int(symmetry.infrared)},{int(symmetry.raman)}"
        rows.append(f"{number},{frequency:.6f},{symmetry.irrep},{seen}")
    (folder / "vibrations.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    summary = {
        "point_group": found.group.name,
        "symmetry_number": found.group.rotational,
        "frequencies_cm-1": found.frequencies.tolist(),
        **numbers,
    }
    (folder / "vibrations.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
