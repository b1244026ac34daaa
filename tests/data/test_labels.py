"""From ASE's structures to frames: where labels are looked for, their shapes and signs."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nequip.data.sources.labels import ISOLATED_ATOM, LabelMap, frame_from_atoms
from nequip.errors import DataError

TENSOR = np.array([[1.0, 6.0, 5.0], [6.0, 2.0, 4.0], [5.0, 4.0, 3.0]])
VOIGT = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]  # xx yy zz yz xz xy
VOLUME = 64.0


def water(results=None, arrays=None, **info) -> Atoms:
    atoms = Atoms("OH2", [[0, 0, 0], [0, 0, 1], [0, 1, 0]], cell=[4, 4, 4], pbc=True, info=info)
    for name, array in (arrays or {}).items():
        atoms.set_array(name, np.asarray(array))
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def frame(atoms: Atoms, **keys):
    return frame_from_atoms(atoms, LabelMap(**keys), "here")


@pytest.mark.parametrize("name", ["energy", "REF_energy", "dft_energy", "DFT_energy", "total_energy"])
def test_energies_are_found_under_usual_names(name):
    assert frame(water(**{name: -3.5})).energy == -3.5


@pytest.mark.parametrize("name", ["forces", "force", "REF_forces", "dft_forces", "dft_force"])
def test_forces_are_found_under_usual_names(name):
    forces = np.arange(9.0).reshape(3, 3)
    assert np.array_equal(frame(water(arrays={name: forces})).forces, forces)


def test_results_of_a_calculator_come_first():
    assert frame(water(results={"energy": -1.0}, REF_energy=-2.0)).energy == -1.0


def test_a_key_that_is_given_wins_over_the_usual_ones():
    assert frame(water(results={"energy": -1.0}, mp2=-2.0), energy="mp2").energy == -2.0


def test_a_frame_without_the_key_given_lacks_the_label():
    assert frame(water(results={"energy": -1.0}), energy="mp2").energy is None


def test_results_of_a_calculator_have_keys_too():
    atoms = water(results={"energy": -1.0, "free_energy": -1.5})
    assert frame(atoms, energy="free_energy").energy == -1.5


@pytest.mark.parametrize("stress", [TENSOR, TENSOR.ravel(), VOIGT], ids=["3x3", "9", "Voigt"])
def test_stress_of_any_shape_becomes_a_matrix(stress):
    assert np.array_equal(frame(water(stress=stress)).stress, TENSOR)


def test_virial_gives_stress_by_the_volume():
    assert np.allclose(frame(water(virial=TENSOR)).stress, -TENSOR / VOLUME)


def test_stress_comes_before_virial():
    assert np.allclose(frame(water(virial=TENSOR, stress=VOIGT)).stress, TENSOR)


def test_a_virial_key_that_is_given_is_read():
    assert np.allclose(frame(water(w=VOIGT), virial="w").stress, -TENSOR / VOLUME)


@pytest.mark.parametrize(("label", "sign"), [("stress", -1.0), ("virial", 1.0 / VOLUME)])
def test_the_opposite_sign_turns_stress_and_virial(label, sign):
    assert np.allclose(frame(water(**{label: VOIGT}), stress_sign=-1).stress, sign * TENSOR)


def test_an_asymmetric_stress_is_symmetrised():
    skew = np.array([[0, 1.0, 0], [-1.0, 0, 0], [0, 0, 0]])
    assert np.allclose(frame(water(virials=TENSOR + skew)).stress, -TENSOR / VOLUME)


def test_without_a_cell_there_is_no_stress():
    atoms = water(stress=VOIGT)
    atoms.cell, atoms.pbc = np.zeros((3, 3)), False
    assert frame(atoms).stress is None


def test_nan_labels_are_missing():
    nan = np.full(6, np.nan)
    found = frame(water(energy=np.nan, stress=nan, arrays={"forces": np.full((3, 3), np.nan)}))
    assert (found.energy, found.forces, found.stress) == (None, None, None)


def test_an_atom_with_one_nan_component_has_no_force():
    forces = np.arange(9.0).reshape(3, 3)
    forces[1, 2] = np.nan
    assert np.isnan(frame(water(arrays={"forces": forces})).forces).all(axis=1).tolist() == [
        False,
        True,
        False,
    ]


def test_a_frame_without_labels_has_none():
    found = frame(water())
    assert (found.energy, found.forces, found.stress, found.weight, found.group) == (
        None,
        None,
        None,
        1.0,
        "",
    )


@pytest.mark.parametrize(
    ("atoms", "sentence"),
    [
        (water(energy="low"), "'energy' .the energy. is not made of numbers"),
        (water(energy=[1.0, 2.0]), "has 2 numbers, expected 1"),
        (water(energy=np.inf), "is infinite"),
        (water(stress=[1.0, 2.0]), "has 2 numbers, expected 6 or 9"),
        (water(arrays={"forces": np.zeros((3, 2))}), "has 6 numbers, expected 9"),
        (water(config_weight=-1.0), "its weight -1.0 must not be negative"),
        (water(config_weight=np.nan), "its weight nan must not be negative or NaN"),
        (Atoms(), "holds no atom"),
    ],
)
def test_labels_that_make_no_sense_are_refused(atoms, sentence):
    with pytest.raises(DataError, match=f"^here.*{sentence}"):
        frame(atoms)


@pytest.mark.parametrize(
    ("info", "group"), [({"group": "Bulk"}, "Bulk"), ({"config_type": "md"}, "md"), ({}, "")]
)
def test_the_group_comes_from_usual_keys(info, group):
    assert frame(water(**info)).group == group


def test_the_group_comes_from_the_key_given():
    assert frame(water(T=600, config_type="md"), group="T").group == "600"


@pytest.mark.parametrize("info", [{"config_type": "IsolatedAtom"}, {"group": "isolated_atom"}])
def test_isolated_atoms_are_told_by_their_group(info):
    assert frame(Atoms("H", info=info), group="T").group == ISOLATED_ATOM


def test_larger_frames_are_no_isolated_atoms():
    assert frame(water(config_type="IsolatedAtom")).group == "IsolatedAtom"


def test_weights_are_read():
    assert frame(water(config_weight=2.5)).weight == 2.5
    assert frame(water(w=3), weight="w").weight == 3.0


def test_a_hessian_is_read_from_an_array_of_rows_for_each_atom():
    hessian = np.arange(36.0).reshape(6, 6)
    hessian = hessian + hessian.T
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    atoms.arrays["REF_hessian"] = hessian.reshape(2, 18)
    assert np.array_equal(frame_from_atoms(atoms, LabelMap(), "here").hessian, hessian)


def test_a_hessian_with_its_axes_in_another_order_is_refused():
    hessian = np.random.default_rng(0).normal(size=(6, 6))
    hessian = (hessian + hessian.T).reshape(2, 3, 2, 3).transpose(0, 2, 1, 3)
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    atoms.info["hessian"] = hessian.reshape(6, 6)
    with pytest.raises(DataError, match="its Hessian is not symmetric"):
        frame_from_atoms(atoms, LabelMap(), "here")
