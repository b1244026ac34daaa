"""`nequip phonons`: bands, density of states and thermal properties of a crystal."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from nequip.cli.computation import add_computation_options
from nequip.cli.extras import need
from nequip.cli.frames import make_folder
from nequip.cli.structures import (
    add_rest_options,
    add_structure_options,
    open_calculator,
    open_structure,
)

if TYPE_CHECKING:
    from nequip.phonons.bands import BandPath
    from nequip.phonons.crystal import Phonons

EXAMPLES = """\
examples:
  nequip-phonons best.nequip NaCl.cif --bands --dos --thermal
  nequip-phonons MPa.model MgO.cif --bands --born BORN --output outputs/MgO

The structure and its lattice are relaxed, its primitive cell is found, and everything is of that cell.
Without --bands, --dos and --thermal all three are made. BORN is phonopy's file of that name.
"""


def register(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to its parser."""
    parser.description = "Phonons of a crystal from exact second derivatives, without supercells."
    parser.epilog = EXAMPLES
    add_structure_options(parser, "STRUCTURE", "the crystal")
    add_rest_options(parser)
    parser.add_argument("--bands", action="store_true", help="along the lines of high symmetry")
    parser.add_argument("--dos", action="store_true", help="density of states, by element too")
    parser.add_argument("--thermal", action="store_true", help="free energy, entropy, heat capacity")
    parser.add_argument(
        "--points", type=int, default=100, metavar="N", help="wave vectors of the bands (100)"
    )
    parser.add_argument("--mesh", type=int, nargs=3, metavar="N", help="of the density of states (by size)")
    parser.add_argument("--supercell", type=int, nargs=3, metavar="N", help="of phonopy's files (by size)")
    parser.add_argument("--born", type=Path, metavar="FILE", help="Born charges and dielectric constant")
    parser.add_argument("--max-temperature", type=float, default=1000.0, metavar="K", help="(1000)")
    parser.add_argument("-o", "--output", type=Path, default=Path("phonons"), metavar="DIR", help="(phonons)")
    add_computation_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Relax, differentiate, and write what was asked for."""
    need("phonopy", "seekpath", "spglib", extra="phonons")
    from nequip.phonons.bands import primitive_cell
    from nequip.phonons.crystal import Phonons
    from nequip.phonons.phonopy_files import default_supercell, to_phonopy, write_phonopy
    from nequip.phonons.relax import relax

    atoms = open_structure(options)
    atoms.calc = open_calculator(options)
    potential = atoms.calc.potential
    Phonons(potential, atoms, options.memory)  # refuses what is no crystal before anything is done
    folder = make_folder(options.output)
    if not options.no_relax:
        atoms = relax(atoms, options.max_force, cell=True)
    primitive, path = primitive_cell(atoms)
    primitive.write(folder / "primitive.xyz")
    phonons = Phonons(potential, primitive, options.memory)
    multiples = tuple(options.supercell or default_supercell(primitive))
    write_phonopy(to_phonopy(phonons, multiples), folder)
    if options.born is not None:
        from nequip.phonons.born import FieldCorrection, read_born

        phonons.correction = FieldCorrection(phonons, read_born(options.born, primitive), multiples)
    lengths = ", ".join(f"{length:.4f}" for length in primitive.cell.lengths())
    print(f"{primitive.get_chemical_formula()}, primitive cell {lengths} Å")
    summary: dict[str, object] = {"formula": primitive.get_chemical_formula(), "supercell": list(multiples)}
    everything = not (options.bands or options.dos or options.thermal)
    if options.bands or everything:
        summary |= _bands(phonons, path, options.points, folder)
    if options.dos or options.thermal or everything:
        summary |= _mesh(phonons, options, folder)
    (folder / "phonons.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(f"\nIn {folder}:\n  " + "\n  ".join(sorted(file.name for file in folder.iterdir())))


def _bands(phonons: Phonons, path: BandPath, points: int, folder: Path) -> dict[str, object]:
    import numpy as np

    from nequip.phonons.bands import band_structure
    from nequip.plotting.phonons import band_plot

    lines = band_structure(phonons, path, points)
    (folder / "bands.png").write_bytes(band_plot(lines).png)
    rows = np.concatenate([np.column_stack([line.distance, line.q, line.frequencies]) for line in lines])
    modes = ",".join(f"mode_{n}_THz" for n in range(rows.shape[1] - 4))
    _write_table(folder / "bands.csv", f"distance,q_a,q_b,q_c,{modes}", rows)
    print("\npoint        frequencies (THz)")
    for name, q in path.points.items():
        print(f"{name:10}" + "".join(f"{value:9.3f}" for value in phonons.frequencies(q)[0]))
    lowest, highest = float(rows[:, 4:].min()), float(rows[:, 4:].max())
    if lowest < -0.01:
        print(f"\nThe lowest frequency is {lowest:.3f} THz: this structure is no minimum of the energy.")
    return {"lowest_THz": lowest, "highest_THz": highest}


def _mesh(phonons: Phonons, options: argparse.Namespace, folder: Path) -> dict[str, object]:
    import numpy as np

    from nequip.phonons.dos import density_of_states, mesh_modes, thermal_properties
    from nequip.plotting.phonons import dos_plot, thermal_plot

    modes = mesh_modes(phonons, tuple(options.mesh) if options.mesh else None)
    if options.dos or not options.thermal:
        dos = density_of_states(phonons, modes)
        (folder / "dos.png").write_bytes(dos_plot(dos).png)
        columns = np.column_stack([dos.frequency, dos.total, *dos.by_element.values()])
        _write_table(folder / "dos.csv", f"frequency_THz,total,{','.join(dos.by_element)}", columns)
    summary: dict[str, object] = {"mesh": list(modes.mesh)}
    if options.thermal or not options.dos:
        thermal = thermal_properties(modes, np.arange(0.0, options.max_temperature + 1, 10.0))
        (folder / "thermal.png").write_bytes(thermal_plot(thermal).png)
        columns = np.column_stack(
            [thermal.temperature, thermal.free_energy, thermal.entropy, thermal.heat_capacity]
        )
        header = "temperature_K,free_energy_kJ_mol,entropy_J_K_mol,heat_capacity_J_K_mol"
        _write_table(folder / "thermal.csv", header, columns)
        print("\n T (K)   F (kJ/mol)   S (J/K/mol)   C (J/K/mol)")
        for row in columns[::10]:
            print(f"{row[0]:6.0f}{row[1]:13.3f}{row[2]:14.3f}{row[3]:14.3f}")
        summary["zero_point_energy_kJ_mol"] = thermal.zero_point_energy
    return summary


def _write_table(path: Path, header: str, rows: object) -> None:
    import numpy as np

    np.savetxt(path, rows, fmt="%.10g", delimiter=",", header=header, comments="")
