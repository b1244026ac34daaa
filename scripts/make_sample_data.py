"""Make the small methanol data set in `nequip/data/sample` with PySCF (B3LYP/6-31G*).

    python scripts/make_sample_data.py --out nequip/data/sample

Takes about twenty minutes on one core. Results are kept in a scratch file as they come,
so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import ase
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.optimize import BFGS
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

FloatArray = NDArray[np.float64]
Labels = dict[str, Any]

XC, BASIS, GRID_LEVEL = "b3lyp", "6-31g*", 3
# PySCF's Hessian leaves out the motion of the grid: at level 3 that costs up to 0.08 eV/Å².
# Good enough to draw geometries from, not for labels.
FINE_LEVEL = 5
SEED = 20240
NUM_HESSIANS = 6
ATOM_SPINS = {"H": 1, "C": 2, "O": 2}  # unpaired electrons in the ground state
CARBON, OXYGEN, HYDROXYL = 0, 1, 3  # atoms in ase.build.molecule("CH3OH")
METHYL = [2, 4, 5]
FREE_TURN = np.pi / 3  # from the minimum to the barrier
DECIMALS = 8  # what the files keep of a position


class Kind(NamedTuple):
    """How one frame is drawn."""

    temperature: int  # K
    free_torsion: bool  # all torsion angles alike instead of swings about the minimum


# Ten frames, in another order in each block of ten: every prefix is then a fair sample.
BLOCK = [Kind(300, False), Kind(300, True)] * 4 + [Kind(600, False), Kind(600, True)]


class Modes(NamedTuple):
    """Minimum and normal modes of methanol, the torsion first."""

    minimum: Atoms
    energy: float  # eV, at the minimum
    omega: FloatArray  # [mode] sqrt(eV / (Å² u))
    vectors: FloatArray  # [mode, atom, 3] displacement per unit of the amplitude, 1 / sqrt(u)
    torsion: float  # radian per unit of the torsion's amplitude


def solve(atoms: Atoms, spin: int = 0, level: int = GRID_LEVEL) -> Any:
    """The converged Kohn-Sham calculation of a structure, restricted when `spin` is 0."""
    from pyscf import dft, gto

    geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions / units.Bohr, strict=True))
    mol = gto.M(atom=geometry, unit="Bohr", basis=BASIS, spin=spin, verbose=0)
    field = dft.UKS(mol, xc=XC) if spin else dft.RKS(mol, xc=XC)
    field.grids.level = level
    field.conv_tol, field.conv_tol_grad = 1e-10, 1e-6
    field.kernel()
    if not field.converged:
        raise RuntimeError(f"the self-consistent field of {atoms} did not converge")
    return field


def energy_of(atoms: Atoms, spin: int = 0) -> float:
    """Total energy in eV."""
    return float(solve(atoms, spin).e_tot * units.Hartree)


def label(atoms: Atoms, hessian_level: int | None = None) -> Labels:
    """Energy, forces, dipole (eV, Å, e·Å); given a grid level for it, the Hessian [3N, 3N]."""
    field = solve(atoms)
    gradient = field.nuc_grad_method()
    # With the motion of the grid the forces are the exact derivative and add up to zero.
    gradient.grid_response = True
    labels = {
        "energy": float(field.e_tot * units.Hartree),
        "forces": (-gradient.kernel() * units.Hartree / units.Bohr).tolist(),
        "dipole": (field.dip_moment(unit="AU", verbose=0) * units.Bohr).tolist(),
    }
    if hessian_level is not None:
        size = 3 * len(atoms)
        field = solve(atoms, level=hessian_level)
        matrix = field.Hessian().kernel().transpose(0, 2, 1, 3).reshape(size, size)
        matrix *= units.Hartree / units.Bohr**2
        # The response equations are solved iteratively: symmetric to 4e-4 only.
        labels["hessian"] = ((matrix + matrix.T) / 2).tolist()
    return labels


class Scratch:
    """Results by what was computed of which structure, one JSON line each."""

    def __init__(self, path: Path) -> None:
        """Read what an earlier run left in `path`."""
        import pyscf

        self.path = path
        self.method = f"{XC} {BASIS} {GRID_LEVEL} {pyscf.__version__}"
        self.results: dict[str, Any] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    key, result = json.loads(line)
                except ValueError:
                    continue  # the run was stopped while it wrote this line
                self.results[key] = result

    def get(self, task: str, atoms: Atoms, compute: Callable[[], Any]) -> Any:
        """The stored result of `task` for a structure, or that of `compute`, then stored."""
        positions = np.round(atoms.positions, DECIMALS).tolist()
        text = json.dumps([self.method, task, atoms.get_chemical_symbols(), positions])
        key = hashlib.sha256(text.encode()).hexdigest()
        if key not in self.results:
            self.results[key] = compute()
            with self.path.open("a") as file:
                # The first line break ends a line that an interrupted run left open.
                file.write("\n" + json.dumps([key, self.results[key]]) + "\n")
        return self.results[key]


class Dft(Calculator):
    """ASE's view of `label`, for the optimiser."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "dipole"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute all labels whatever is asked for: they cost little more than the energy."""
        super().calculate(atoms, properties, system_changes)
        labels = label(self.atoms)
        self.results = {name: np.array(value) for name, value in labels.items()}
        self.results["energy"] = labels["energy"]


def optimise(start: Atoms) -> list[list[float]]:
    """Positions of the minimum next to `start`."""
    atoms = start.copy()
    atoms.calc = Dft()
    if not BFGS(atoms, logfile="-").run(fmax=2e-4, steps=100):
        raise RuntimeError("the optimisation of methanol did not converge")
    return np.round(atoms.positions, DECIMALS).tolist()


def rigid_motions(atoms: Atoms) -> FloatArray:
    """Orthonormal mass-weighted translations and rotations, [6, 3N]."""
    root = np.sqrt(atoms.get_masses())[:, None]
    centered = atoms.positions - atoms.get_center_of_mass()
    shifts = [np.tile(axis, (len(atoms), 1)) for axis in np.eye(3)]
    turns = [np.cross(axis, centered) for axis in np.eye(3)]
    motions = np.stack([(root * motion).ravel() for motion in shifts + turns])
    return np.linalg.qr(motions.T)[0].T


def normal_modes(scratch: Scratch) -> Modes:
    """Find the minimum and diagonalise the mass-weighted Hessian there."""
    minimum = molecule("CH3OH")
    minimum.positions = scratch.get("minimum", minimum, lambda: optimise(minimum))
    labels = scratch.get("hessian", minimum, lambda: label(minimum, GRID_LEVEL))
    root = np.sqrt(np.repeat(minimum.get_masses(), 3))
    rigid = rigid_motions(minimum)
    inner = np.eye(len(root)) - rigid.T @ rigid
    squared, vectors = np.linalg.eigh(inner @ (labels["hessian"] / np.outer(root, root)) @ inner)
    # Rigid motions are projected to zero: the six that lie closest to it.
    keep = np.sort(np.argsort(np.abs(squared))[len(rigid) :])
    if squared[keep].min() <= 0:
        raise RuntimeError("the optimised structure is no minimum")
    vectors = vectors[:, keep].T
    # Eigenvectors have no sign of their own: choose one, or the draw depends on the library.
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], axis=1)
    shapes = (vectors * np.sign(largest) / root).reshape(len(keep), -1, 3)
    slope = torsion_slope(minimum, shapes[0])
    return Modes(minimum, labels["energy"], np.sqrt(squared[keep]), shapes, slope)


def torsion_slope(minimum: Atoms, shape: FloatArray, step: float = 1e-4) -> float:
    """Turn of the OH group against the methyl group per unit of the torsion's amplitude."""
    angles = []
    for sign in (1, -1):
        moved = minimum.copy()
        moved.positions += sign * step * shape
        chains = [[atom, CARBON, OXYGEN, HYDROXYL] for atom in METHYL]
        angles.append(np.radians(moved.get_dihedrals(chains)))
    turn = (angles[0] - angles[1] + np.pi) % (2 * np.pi) - np.pi
    return float(turn.mean() / (2 * step))


def draw(modes: Modes, kind: Kind, rng: np.random.Generator) -> Atoms:
    """A structure from the classical Boltzmann distribution of the normal modes.

    Each amplitude q has the energy (omega q)² / 2, hence a normal distribution of width
    sqrt(kT) / omega. The torsion is so soft that a straight displacement along it would
    stretch the OH bond: it is carried out as a turn about the CO axis. A free torsion reaches
    the barriers on both sides. By symmetry that is the whole circle, and a turn further would
    leave the methyl group, whose tilt follows the OH group, in the wrong place.
    """
    atoms = modes.minimum.copy()
    width = np.sqrt(units.kB * kind.temperature) / modes.omega
    amplitudes = rng.normal(size=len(width)) * width
    atoms.positions += np.einsum("m,mac->ac", amplitudes[1:], modes.vectors[1:])
    uniform = rng.uniform(-FREE_TURN, FREE_TURN)
    angle = uniform if kind.free_torsion else modes.torsion * amplitudes[0]
    chain = [METHYL[0], CARBON, OXYGEN, HYDROXYL]
    atoms.rotate_dihedral(*chain, angle=np.degrees(angle), indices=[HYDROXYL])
    # Any orientation, so that a model that is not equivariant gives itself away.
    atoms.positions -= atoms.get_center_of_mass()
    turn = Rotation.from_quat(rng.normal(size=4)).as_matrix()
    atoms.positions = np.round(atoms.positions @ turn.T, DECIMALS)
    atoms.info["group"] = f"{kind.temperature}K"
    return atoms


def draw_all(modes: Modes, count: int) -> tuple[list[Atoms], list[Kind]]:
    """The structures of the data set; a smaller `count` gives the first of a larger one."""
    blocks = range(-(-count // len(BLOCK)))
    orders = [np.random.default_rng([SEED, 0, block]).permutation(len(BLOCK)) for block in blocks]
    kinds = [BLOCK[place] for order in orders for place in order][:count]
    seeds = [[SEED, 1, index] for index in range(count)]
    generators = [np.random.default_rng(seed) for seed in seeds]
    frames = [draw(modes, *pair) for pair in zip(kinds, generators, strict=True)]
    return frames, kinds


def draw_hessian_frames(modes: Modes) -> list[Atoms]:
    """The minimum, and structures at 300 K that are not in the data set."""
    minimum = modes.minimum.copy()
    minimum.info["group"] = "minimum"
    seeds = [[SEED, 2, index] for index in range(NUM_HESSIANS - 1)]
    kinds = [Kind(300, bool(index % 2)) for index in range(len(seeds))]
    generators = [np.random.default_rng(seed) for seed in seeds]
    pairs = zip(kinds, generators, strict=True)
    return [minimum, *(draw(modes, *pair) for pair in pairs)]


def with_progress(frames: list[Atoms], what: str) -> Iterator[Atoms]:
    """Pass the frames on, and say every few of them how long the rest will take."""
    start = time.time()
    for done, atoms in enumerate(frames, 1):
        yield atoms
        if done % 10 == 0 or done == len(frames):
            # The pace of the last ten: the first ones may have come from the scratch file.
            rest = (time.time() - start) / 10 * (len(frames) - done)
            print(f"{what}: {done} of {len(frames)}, {rest / 60:.1f} min left", flush=True)
            start = time.time()


def attach(atoms: Atoms, labels: Labels) -> None:
    """Give a structure its labels in the form that ASE writes to extxyz."""
    forces, dipole = np.array(labels["forces"]), np.array(labels["dipole"])
    results = {"energy": labels["energy"], "forces": forces, "dipole": dipole}
    atoms.calc = SinglePointCalculator(atoms, **results)
    if "hessian" in labels:
        # The three rows of each atom side by side: [atom, 3 * 3N].
        atoms.arrays["hessian"] = np.reshape(labels["hessian"], (len(atoms), -1))


def isolated_atoms(scratch: Scratch) -> list[Atoms]:
    """One spin-polarised atom of each element."""
    frames = []
    for symbol, spin in ATOM_SPINS.items():
        atoms = Atoms(symbol, positions=np.zeros((1, 3)))
        atoms.info["config_type"] = "isolated_atom"
        energy = scratch.get("atom", atoms, lambda a=atoms, s=spin: energy_of(a, s))
        atoms.calc = SinglePointCalculator(atoms, energy=energy)
        frames.append(atoms)
    return frames


def force_error(atoms: Atoms, step: float = 2e-3) -> float:
    """Largest difference of the forces from central differences of the energy, eV/Å."""
    numeric = np.zeros((len(atoms), 3))
    for place in np.ndindex(*numeric.shape):
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[place] += sign * step
            numeric[place] -= sign * energy_of(moved) / (2 * step)
    return float(np.abs(numeric - atoms.get_forces()).max())


def reading_error(path: Path, frames: list[Atoms]) -> float:
    """Largest difference between the frames and what ASE reads from the file."""
    again = read(path, ":")
    if len(again) != len(frames):
        raise RuntimeError(f"{path} holds {len(again)} frames, not {len(frames)}")
    errors = []
    for left, right in zip(frames, again, strict=True):
        same_elements = np.array_equal(left.numbers, right.numbers)
        if not same_elements or left.info.items() - right.info.items():
            raise RuntimeError(f"{path}: elements or group of a frame were not read back")
        errors += [np.abs(left.arrays[name] - right.arrays[name]).max() for name in left.arrays]
        for name, value in left.calc.results.items():
            errors.append(np.abs(value - right.calc.results[name]).max())
    return float(max(errors))


def bond_range(frames: list[Atoms], pairs: list[tuple[int, int]]) -> str:
    """Shortest and longest distance over some pairs of atoms."""
    lengths = [atoms.get_distance(*pair) for atoms in frames for pair in pairs]
    return f"{min(lengths):.3f} to {max(lengths):.3f} Å"


def summary(modes: Modes, frames: list[Atoms], kinds: list[Kind]) -> list[str]:
    """What a reader wants to know of the numbers, and whether they are sensible."""
    above = np.array([atoms.get_potential_energy() for atoms in frames]) - modes.energy
    forces = np.array([atoms.get_forces() for atoms in frames])
    wavenumbers = modes.omega * units._hbar * 1e10 * np.sqrt(units._e / units._amu) / units._e
    lines = [
        f"Energy of the minimum {modes.energy:.6f} eV; above it {above.min():.3f} to "
        f"{above.max():.3f} eV. Largest force component {np.abs(forces).max():.2f} eV/Å, "
        f"root mean square {np.sqrt((forces**2).mean()):.2f}. "
        f"Largest net force {np.abs(forces.sum(axis=1)).max():.1e} eV/Å.",
        "Harmonic wave numbers (cm⁻¹): "
        + ", ".join(f"{value:.0f}" for value in wavenumbers / units.invcm)
        + ".",
        f"Bond lengths: CO {bond_range(frames, [(CARBON, OXYGEN)])}, "
        f"OH {bond_range(frames, [(OXYGEN, HYDROXYL)])}, "
        f"CH {bond_range(frames, [(CARBON, atom) for atom in METHYL])}.",
    ]
    for kind in dict.fromkeys(sorted(kinds)):
        energies = above[[other == kind for other in kinds]]
        error = energies.std() / np.sqrt(len(energies))
        harmonic = len(modes.omega) / 2 * units.kB * kind.temperature
        lines.append(
            f"{kind.temperature} K, torsion {'uniform' if kind.free_torsion else 'thermal'}, "
            f"{len(energies)} frames: mean energy above the minimum {energies.mean():.3f} "
            f"± {error:.3f} eV; harmonic (3N-6)/2 kT = {harmonic:.3f} eV."
        )
    return lines


def write_readme(path: Path, count: int, facts: list[str]) -> None:
    """Say beside the data where they come from."""
    import pyscf

    listed = "\n".join(f"- {fact}" for fact in facts)
    path.write_text(f"""# Methanol, computed for this project

| file | frames | labels |
|---|---|---|
| `methanol.xyz` | {count} of CH3OH | `energy`, `forces`, `dipole`; `group` is `300K` or `600K` |
| `methanol_isolated_atoms.xyz` | H, C, O | `energy`; `config_type=isolated_atom` |
| `methanol_hessian.xyz` | {NUM_HESSIANS} of CH3OH | those, `hessian`; `group`: `minimum`, `300K` |

Extended XYZ. Units: eV, Å, eV/Å, dipole e·Å (from minus to plus), Hessian eV/Å². Energies are
total energies. No cell. `hessian` has 3 · 3N columns per atom: the three rows
d²E/dx_a dx_b (a = the atom's x, y, z; b = all 3N coordinates, atom by atom) side by side, so that
`hessian.reshape(3 * N, 3 * N)` is the matrix.

Licence: our own data, under the same licence as the project.

## How they were made
`OMP_NUM_THREADS=1 python scripts/make_sample_data.py --out nequip/data/sample --frames {count}`
with PySCF {pyscf.__version__}, ASE {ase.__version__}, NumPy {np.__version__}.

- Method: B3LYP (PySCF's `{XC}`: VWN RPA, as in Gaussian), basis 6-31G* with five d functions
  (PySCF's default; Gaussian takes six), PySCF's grid level {GRID_LEVEL}, energy converged to 1e-10
  Hartree. Molecule: restricted. Atoms: unrestricted, doublet H, triplet C and O.
- Forces include the response of the grid: they are the exact derivative of the energy. The
  stored Hessians do not (PySCF has none for them), and are made with grid level {FINE_LEVEL},
  where it matters little (largest sum over a row below). The grid is fixed in space: a turned
  molecule has the same energy to 0.03 meV, the same forces to 1 meV/Å.
- Geometries: minimum by BFGS (2e-4 eV/Å), normal modes of the Hessian there. All modes but the
  torsion get amplitudes from the classical Boltzmann distribution, straight in Cartesian
  coordinates. The OH group is then turned about the CO axis: in half of the frames by the angle
  that belongs to a thermal amplitude of the torsion, in the other half by an angle uniform
  within 60° of the minimum. That reaches the barriers on both sides, hence covers the whole
  rotation but for the names of the methyl hydrogens. The turn is rigid, so that these frames lie
  somewhat higher in energy. At last the molecule is turned at random.
- Of each ten frames, eight are at 300 K and two at 600 K, in random order: any prefix is a fair
  sample. The draws are seeded (seed {SEED}) frame by frame, so fewer frames are a prefix of more.
- The frames of `methanol_hessian.xyz` are the minimum and five more draws at 300 K, none of
  which is in `methanol.xyz`.

## Figures and checks
{listed}
""")


def make(out: Path, count: int, scratch: Scratch) -> None:
    """Compute, write and check everything."""
    out.mkdir(parents=True, exist_ok=True)
    atoms = isolated_atoms(scratch)
    modes = normal_modes(scratch)
    frames, kinds = draw_all(modes, count)
    for frame in with_progress(frames, "energies and forces"):
        attach(frame, scratch.get("label", frame, lambda f=frame: label(f)))
    hessians = draw_hessian_frames(modes)
    task = f"hessian at level {FINE_LEVEL}"
    for frame in with_progress(hessians, "Hessians"):
        attach(frame, scratch.get(task, frame, lambda f=frame: label(f, FINE_LEVEL)))
    facts = summary(modes, frames, kinds)
    files = {"methanol": frames, "methanol_isolated_atoms": atoms, "methanol_hessian": hessians}
    for name, content in files.items():
        path = out / f"{name}.xyz"
        write(path, content, format="extxyz")
        # Half a unit in the eighth decimal is what the file format leaves.
        if (error := reading_error(path, content)) > 1e-8:
            raise RuntimeError(f"{path} reads back with an error of {error}")
    sums = [np.reshape(frame.arrays["hessian"], (-1, len(frame), 3)).sum(1) for frame in hessians]
    facts.append(f"Largest sum over a row of a Hessian: {np.abs(sums).max():.1e} eV/Å².")
    error = scratch.get("differences", frames[0], lambda: force_error(frames[0]))
    facts.append(f"Forces of the first frame against differences of the energy: {error:.1e} eV/Å.")
    write_readme(out / "README.md", count, facts)
    print("\n".join(facts))


def main() -> int:
    """Read the command line and make the data."""
    parser = argparse.ArgumentParser(description="Make the methanol data set with PySCF.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--frames", type=int, default=300, help="frames in methanol.xyz")
    default = Path(tempfile.gettempdir()) / "make_sample_data.jsonl"
    parser.add_argument("--scratch", type=Path, default=default, help="results so far are here")
    options = parser.parse_args()
    if options.frames < 1:
        parser.error("--frames must be at least 1")
    if importlib.util.find_spec("pyscf") is None:
        print("PySCF is missing: install it with `pip install 'pyscf==2.14.*'`.", file=sys.stderr)
        return 2
    make(options.out, options.frames, Scratch(options.scratch))
    return 0


if __name__ == "__main__":
    sys.exit(main())
