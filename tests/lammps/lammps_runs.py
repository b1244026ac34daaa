"""LAMMPS as a process: scripts for it, and what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from lammps_structures import ELEMENTS

BIN = Path(sys.executable).parent
BAR = 1.6021765e6  # bar in one eV/Å³, as LAMMPS's metal units have it
HEADER = "units metal\natom_style atomic\nnewton on\n"

# Everything that a potential gives, in all its digits.
OUTPUT = """
compute energies all pe/atom
compute virials all stress/atom NULL pair
compute sums all reduce sum c_energies c_virials[*]
thermo_style custom step temp pe etotal vol pxx pyy pzz pxy pxz pyz c_sums[*]
thermo_modify format float %24.16g norm no
neighbor 1.0 bin
"""
COMPONENTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # xx yy zz xy xz yz


@dataclass(frozen=True)
class Run:
    """What a run of LAMMPS left behind."""

    output: str
    folder: Path

    @property
    def errors(self) -> list[str]:
        """Sentences, without LAMMPS's place in its source."""
        lines = [line for line in self.output.splitlines() if line.startswith("ERROR")]
        return [line.partition(": ")[2].rpartition(" (")[0] for line in lines]

    def tables(self) -> list[dict[str, np.ndarray]]:
        """The thermodynamic output of each `run`, by the names of its columns."""
        found: list[dict[str, np.ndarray]] = []
        names: list[str] = []
        rows: list[list[str]] = []
        for words in map(str.split, self.output.splitlines()):
            if words[:1] == ["Step"]:
                names, rows = words, []
            elif words[:3] == ["Loop", "time", "of"]:
                found.append(dict(zip(names, np.array(rows, dtype=float).T, strict=True)))
                names = []
            elif names:
                rows.append(words)
        return found

    def dump(self, name: str) -> dict[str, np.ndarray]:
        """The last frame of a dump, by the names of its columns, in the order of atom ids."""
        lines = (self.folder / name).read_text().rpartition("ITEM: ATOMS ")[2].splitlines()
        values = np.array([line.split() for line in lines[1:]], dtype=float)
        values = values[np.argsort(values[:, 0])]
        return dict(zip(lines[0].split(), values.T, strict=True))

    def forces(self, name: str) -> np.ndarray:
        """[atom, 3]; the dump has columns fx, fy and fz."""
        dump = self.dump(name)
        return np.stack([dump["fx"], dump["fy"], dump["fz"]], axis=1)


def run_lammps(script: str, folder: Path, ranks: int = 1, threads: int = 1) -> Run:
    """Run a script in `folder`, with or without success."""
    (folder / "in.lammps").write_text(script)
    return run_file(folder / "in.lammps", folder, ranks, threads)


def run_file(file: Path, folder: Path, ranks: int = 1, threads: int = 1, **variables: object) -> Run:
    """The same for a script that is there, with values for its variables."""
    values = [word for name, value in variables.items() for word in ("-v", name, str(value))]
    command = [str(BIN / "lmp"), "-log", "none", *values, "-in", str(file)]
    if ranks > 1:
        command = [str(BIN / "mpirun"), "-np", str(ranks), *command]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    run = Run(done.stdout + done.stderr, folder)
    assert (done.returncode == 0) == (not run.errors), run.output
    return run


def succeed(run: Run) -> Run:
    """The run, which must have no errors."""
    assert not run.errors, run.output
    return run


def write_data(path: Path, atoms: Atoms, elements: Sequence[str] = ELEMENTS) -> None:
    """A structure whose cell is lower triangular, as LAMMPS wants it; elements in the order of atom types."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = atoms.cell.array.tolist()
    assert xy == xz == yz == 0.0, "turn the structure first"
    types = [elements.index(symbol) + 1 for symbol in atoms.symbols]
    lines = [
        "a structure\n",
        f"{len(atoms)} atoms\n{len(elements)} atom types\n",
        f"0 {xx!r} xlo xhi\n0 {yy!r} ylo yhi\n0 {zz!r} zlo zhi",
        f"{yx!r} {zx!r} {zy!r} xy xz yz" if any((yx, zx, zy)) else "",
        "\nMasses\n",
        *(f"{i} {atomic_masses[atomic_numbers[element]]}" for i, element in enumerate(elements, 1)),
        "\nAtoms # atomic\n",
    ]
    for i, (kind, (x, y, z)) in enumerate(zip(types, atoms.positions.tolist(), strict=True), 1):
        lines.append(f"{i} {kind} {x!r} {y!r} {z!r}")
    path.write_text("\n".join(lines) + "\n")


def read_structure(atoms: Atoms, folder: Path, name: str = "structure") -> str:
    """Commands that read a structure, which is written to `folder`."""
    write_data(folder / f"{name}.data", atoms)
    boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    return f"boundary {boundary}\nread_data {name}.data\n"


def take_potential(plugin: Path, style: str, file: Path | str) -> str:
    """Commands that load a compiled potential for all atoms."""
    return f"plugin load {plugin}\npair_style {style}\npair_coeff * * {file} {' '.join(ELEMENTS)}\n"


def dump_forces(name: str = "forces.dump") -> str:
    """Commands that write forces and energies of atoms, of the last step."""
    return (
        f"dump forces all custom 1 {name} id x y z fx fy fz c_energies proc\n"
        "dump_modify forces format float %24.16g\n"
    )
