from __future__ import annotations

import pickle
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from toy_potential import toy_potential

from nequip.calculators import NequIPCalculator
from nequip.calculators.dynamics import set_velocities
from nequip.errors import DataError, ModelError


def copper(repeat: int = 2, rattle: float = 0.1) -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.7, cubic=True) * repeat
    atoms.rattle(rattle, seed=1)
    return atoms


def calculator(**keys) -> NequIPCalculator:
    return NequIPCalculator(toy_potential(), **keys)


def with_calculator(atoms: Atoms, **keys) -> Atoms:
    atoms.calc = calculator(**keys)
    return atoms


def test_forces_are_minus_the_gradient():
    atoms = with_calculator(copper(1))
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-5), atol=1e-8)


def test_stress_is_the_strain_derivative_in_voigt_order_with_ases_sign():
    atoms = with_calculator(copper(1))
    numerical = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), numerical, atol=1e-9)
    assert abs(numerical).max() > 1e-3


def test_energies_of_atoms_sum_to_the_energy():
    atoms = with_calculator(copper())
    assert atoms.get_potential_energies().shape == (len(atoms),)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def test_molecule_without_a_cell_has_no_stress():
    atoms = molecule("H2O")
    atoms.calc = NequIPCalculator(toy_potential(("H", "O")))
    assert np.isfinite(atoms.get_forces()).all()
    with pytest.raises(PropertyNotImplementedError, match="needs a cell with three lattice vectors"):
        atoms.get_stress()


def test_slab_with_two_lattice_vectors_has_forces():
    atoms = with_calculator(fcc111("Cu", (2, 2, 3), a=3.7))
    assert np.isfinite(atoms.get_forces()).all()
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_cell_smaller_than_the_cutoff_equals_its_supercell():
    small, large = with_calculator(bulk("Cu", a=3.6)), with_calculator(bulk("Cu", a=3.6) * 3)
    assert large.get_potential_energy() == pytest.approx(27 * small.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(large.get_stress(), small.get_stress(), atol=1e-12)


def test_one_atom_alone():
    atoms = with_calculator(Atoms("Cu"))
    assert atoms.get_potential_energy() == -1.0
    np.testing.assert_array_equal(atoms.get_forces(), np.zeros((1, 3)))


def test_unknown_element_is_named():
    atoms = with_calculator(Atoms("CuPt", [[0, 0, 0], [0, 0, 2.5]]))
    with pytest.raises(DataError, match="holds Pt, but the model knows only Cu"):
        atoms.get_potential_energy()


def test_energy_only_potential_refuses_forces_in_a_sentence():
    atoms = copper(1)
    atoms.calc = NequIPCalculator(toy_potential(energy_only=True))
    assert np.isfinite(atoms.get_potential_energy())
    for ask in (atoms.get_forces, atoms.get_stress):
        with pytest.raises(PropertyNotImplementedError, match="predicts energies only"):
            ask()


def test_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ModelError, match="torch sees no GPU"):
        calculator(device="cuda")


def test_negative_skin_is_refused():
    with pytest.raises(ModelError, match="skin is -1 Å"):
        calculator(skin=-1)


def test_potential_given_stays_as_it_was():
    potential = toy_potential().train()
    calc = NequIPCalculator(potential, dtype="float32")
    assert potential.training
    assert all(value.requires_grad for value in potential.parameters())
    assert potential.card.dtype == "float64"
    assert calc.potential.card.dtype == "float32"


def test_float32_agrees_to_its_precision():
    double, single = with_calculator(copper()), with_calculator(copper(), dtype="float32")
    assert single.get_forces().dtype == np.float64
    np.testing.assert_allclose(single.get_forces(), double.get_forces(), atol=1e-5)
    assert not np.array_equal(single.get_forces(), double.get_forces())


# --- the skin


def trajectory(steps: int = 40) -> list[Atoms]:
    """Hot copper in a breathing, shearing cell; atoms are wrapped back now and then."""
    atoms = with_calculator(copper(1), skin=0.0)
    set_velocities(atoms, temperature=3000, seed=0)
    frames = []
    with VelocityVerlet(atoms, timestep=4 * units.fs) as md:
        for step in range(steps):
            md.run(1)
            if step % 10 == 5:
                strain = np.eye(3) + 0.01 * np.array([[1, 0.5, 0], [0, -1, 0], [0.3, 0, 0.2]])
                atoms.set_cell(atoms.cell @ strain, scale_atoms=True)
            if step % 15 == 7:
                atoms.wrap()
            frames.append(atoms.copy())
    return frames


def test_skin_changes_no_bit_along_molecular_dynamics():
    kept, fresh = calculator(skin=0.6), calculator(skin=0.0)
    for atoms in trajectory():
        for name in ("energy", "forces", "stress"):
            np.testing.assert_array_equal(kept.get_property(name, atoms), fresh.get_property(name, atoms))
    assert fresh.neighbor_list.num_searches == 40
    assert kept.neighbor_list.num_searches < 25


def test_atoms_at_rest_are_computed_once():
    atoms = with_calculator(copper())
    atoms.get_forces()
    results = atoms.calc.results
    atoms.get_stress()
    assert atoms.calc.results is results


def test_one_calculator_may_go_from_structure_to_structure():
    calc = calculator()
    first, second = copper(1), copper(2)
    expected = [calculator().get_property("forces", atoms) for atoms in (first, second, first)]
    for atoms, forces in zip((first, second, first), expected, strict=True):
        np.testing.assert_array_equal(calc.get_property("forces", atoms), forces)


# --- many structures in one call


def structures() -> list[Atoms]:
    return [copper(1), Atoms("Cu"), copper(2), Atoms("Cu2", [[0, 0, 0], [0, 0, 2.4]]), bulk("Cu", a=3.5)]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_batched_evaluation_equals_one_by_one(batch_size):
    calc = calculator()
    results = calc.evaluate(structures(), batch_size=batch_size)
    assert len(results) == 5
    for atoms, result in zip(structures(), results, strict=True):
        single = calculator()
        single.calculate(atoms)
        assert result.keys() == single.results.keys()
        for name, value in single.results.items():
            np.testing.assert_allclose(result[name], value, atol=1e-12)


def test_evaluate_takes_a_generator_and_leaves_results_alone():
    atoms = with_calculator(copper(1))
    energy = atoms.get_potential_energy()
    assert len(atoms.calc.evaluate(frame for frame in structures())) == 5
    assert atoms.calc.results["energy"] == energy


def test_evaluate_names_the_structure_it_cannot_take():
    with pytest.raises(DataError, match="structure 2 holds H"):
        calculator().evaluate([Atoms("Cu"), Atoms("Cu"), Atoms("H")], batch_size=2)


def test_evaluate_refuses_an_empty_batch():
    with pytest.raises(ModelError, match="batch_size is 0"):
        calculator().evaluate([], batch_size=0)


# --- what ASE does with calculators


def test_relaxation_of_atoms_and_cell_ends_at_rest():
    atoms = with_calculator(copper(1, rattle=0.05))
    with BFGS(FrechetCellFilter(atoms), logfile=None) as optimizer:
        assert optimizer.run(fmax=1e-4, steps=200)
    assert abs(atoms.get_forces()).max() < 1e-4
    assert abs(atoms.get_stress()).max() < 1e-5


def test_equation_of_state_has_its_minimum_where_the_stress_vanishes():
    def at(a: float) -> Atoms:
        return with_calculator(bulk("Cu", a=a))

    scan = [at(a) for a in np.linspace(3.36, 3.42, 9)]
    energies = [atoms.get_potential_energy() for atoms in scan]
    volume, _, modulus = EquationOfState([atoms.get_volume() for atoms in scan], energies).fit()
    assert modulus > 0
    assert abs(at((4 * volume) ** (1 / 3)).get_stress()).max() < 1e-3 * modulus


def test_energy_is_conserved_in_molecular_dynamics():
    atoms = with_calculator(copper(2, rattle=0.02))
    set_velocities(atoms, temperature=300, seed=2)
    totals = []
    with VelocityVerlet(atoms, timestep=2 * units.fs) as md:
        for _ in range(100):
            md.run(1)
            totals.append(atoms.get_total_energy() / len(atoms))
    assert np.ptp(totals) < 5e-4


@pytest.mark.parametrize(
    "copied", [deepcopy, lambda calc: pickle.loads(pickle.dumps(calc))], ids=["deepcopy", "pickle"]
)
def test_copies_compute_the_same_and_are_independent(copied):
    atoms = with_calculator(copper(1))
    forces = atoms.get_forces()
    twin = copied(atoms.calc)
    np.testing.assert_array_equal(twin.get_property("forces", copper(1)), forces)
    twin.get_property("forces", copper(2))
    assert len(atoms.calc.results["forces"]) == 4


def test_results_are_written_with_the_structure(tmp_path):
    atoms = with_calculator(copper(1))
    atoms.get_stress()
    write(tmp_path / "out.xyz", atoms)
    again = read(tmp_path / "out.xyz")
    np.testing.assert_allclose(again.get_forces(), atoms.get_forces(), atol=1e-7)
    np.testing.assert_allclose(again.get_stress(), atoms.get_stress(), atol=1e-7)


def test_import_leaves_training_alone():
    code = "import sys; from nequip.calculators import NequIPCalculator; print('lightning' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
