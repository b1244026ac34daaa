"""The conformance suites pass a potential that is right, and each of their properties can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nequip.testing import EnergyConformance, PotentialConformance

SUITES = Path(__file__).with_name("toy_suites.py")


def properties(suite):
    return {name for name in dir(suite) if name.startswith("test_")}


# The property that is made to catch what is wrong with a toy; others may fail beside it.
CAUGHT_BY_ENERGIES = {
    "KeepsHistory": "test_prediction_is_complete",
    "Silent": "test_neighbors_change_the_energy",
    "Anisotropic": "test_rotation",
    "Chiral": "test_reflection",
    "NumbersItsAtoms": "test_permutation_of_atoms",
    "FirstNeighborFirst": "test_permutation_of_edges",
    "Anchored": "test_translation",
    "ForgetsShifts": "test_translation_by_lattice_vectors",
    "NormalizesOverTheBatch": "test_batch_equals_single",
    "Intensive": "test_far_structures_add",
    "SkipsOwnImages": "test_supercell",
    "DividesByNeighbors": "test_atoms_without_neighbors",
    "HardCutoff": "test_smooth_at_the_cutoff",
    "OneCutoffForAll": "test_smooth_at_the_cutoff",
    "WritesIntoItsInput": "test_flags_of_autograd_change_nothing",
    "LosesAParameter": "test_save_and_load",
    "Noisy": "test_same_input_same_bits",
    "Unseeded": "test_same_seed_same_weights",
    "RoughInFloat32": "test_single_precision",
    "IdleParameter": "test_losses_reach_every_parameter",
    "HalfDetachedEnergies": "test_gradients_of_energy_losses",
}
CAUGHT_BY_FORCES = {
    "ForgetsTheVolume": "test_derivatives_are_complete",
    "Silent": "test_neighbors_exert_forces",
    "Anchored": "test_atoms_without_neighbors_feel_nothing",
    "TracksTooLittle": "test_forces_are_the_gradient",
    "OppositeStress": "test_stress_is_the_strain_derivative",
    "KinkedCutoff": "test_forces_are_smooth_at_the_cutoff",
    "TakesGradientsForTraining": "test_flags_of_autograd_change_nothing",
    "RootOfNothing": "test_losses_reach_every_parameter",
    "DetachedForces": "test_gradients_of_losses_on_derivatives",
    "HalfDetachedForces": "test_gradients_of_losses_on_derivatives",
}
CASES = [(f"{toy}Energies", name) for toy, name in CAUGHT_BY_ENERGIES.items()]
CASES += [(f"{toy}Potential", name) for toy, name in CAUGHT_BY_FORCES.items()]
WRONG_SUITES = ["ForcesWithoutTests", "TestsWithoutForces"]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Suite, then outcome, then the properties of which it is one; from a run of pytest of its own."""
    site = tmp_path_factory.mktemp("site")
    info = site / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nequip.models]\ntoy = toy_potentials:ARCHITECTURE\n")
    report = site / "report.xml"
    # Neither plugins nor rewritten assertions, which take longer to set up than most properties.
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--assert=plain", f"--junitxml={report}"]
    whole = ["LennardJonesEnergies", "LennardJonesPotential", "ChiralEnergies"]
    tests = [*whole, *(f"{suite}::{name}" for suite, name in CASES)]
    tests += [f"{suite}::test_same_input_same_bits" for suite in WRONG_SUITES]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"{SUITES}::Test{test}" for test in tests)],
        env={**os.environ, "PYTHONPATH": str(site), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    outcomes = defaultdict(lambda: defaultdict(set))
    for case in ElementTree.parse(report).iter("testcase"):
        suite = case.get("classname").partition(".Test")[2]
        outcome = case[0].tag if len(case) else "passed"
        outcomes[suite][outcome].add(case.get("name").partition("[")[0])
    return outcomes


@pytest.mark.parametrize(
    ("suite", "base"),
    [("LennardJonesEnergies", EnergyConformance), ("LennardJonesPotential", PotentialConformance)],
)
def test_a_right_potential_passes_everything(outcomes, suite, base):
    assert outcomes[suite] == {"passed": properties(base)}


@pytest.mark.parametrize(("suite", "name"), CASES)
def test_a_wrong_potential_is_caught(outcomes, suite, name):
    assert name in outcomes[suite]["failure"]


def test_a_chiral_potential_is_caught_by_reflections_alone(outcomes):
    assert outcomes["ChiralEnergies"]["failure"] == {"test_reflection"}


@pytest.mark.parametrize("suite", WRONG_SUITES)
def test_a_suite_refuses_what_the_other_is_for(outcomes, suite):
    """Otherwise tests of forces would be left out without a word."""
    assert outcomes[suite]["error"] == {"test_same_input_same_bits"}


def test_every_property_of_energies_catches_something():
    assert set(CAUGHT_BY_ENERGIES.values()) == properties(EnergyConformance)


def test_every_property_of_forces_catches_something():
    assert set(CAUGHT_BY_FORCES.values()) >= properties(PotentialConformance) - properties(EnergyConformance)
