"""The conformance suite passes a potential that is right, and each of its properties can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nequip.testing import PotentialConformance

SUITES = Path(__file__).with_name("toy_suites.py")
PROPERTIES = {name for name in dir(PotentialConformance) if name.startswith("test_")}

# The property that is made to catch what is wrong with a toy; others may fail beside it.
CAUGHT_BY = {
    "KeepsHistory": "test_prediction_is_complete",
    "Silent": "test_neighbors_exert_forces",
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
    "TracksTooLittle": "test_forces_are_the_gradient",
    "OppositeStress": "test_stress_is_the_strain_derivative",
    "HardCutoff": "test_smooth_at_the_cutoff",
    "KinkedCutoff": "test_smooth_at_the_cutoff",
    "OneCutoffForAll": "test_smooth_at_the_cutoff",
    "TakesGradientsForTraining": "test_flags_of_autograd_change_nothing",
    "WritesIntoItsInput": "test_flags_of_autograd_change_nothing",
    "LosesAParameter": "test_save_and_load",
    "Noisy": "test_same_input_same_bits",
    "Unseeded": "test_same_seed_same_weights",
    "RoughInFloat32": "test_single_precision",
    "IdleParameter": "test_losses_reach_every_parameter",
    "DetachedForces": "test_gradients_of_losses",
    "HalfDetachedForces": "test_gradients_of_losses",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Which properties passed and which failed for each toy, in a run of pytest of its own."""
    site = tmp_path_factory.mktemp("site")
    info = site / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nequip.models]\ntoy = toy_potentials:ARCHITECTURE\n")
    report = site / "report.xml"
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--tb=no", f"--junitxml={report}"]
    tests = ["TestLennardJones", "TestChiral", *(f"Test{toy}::{name}" for toy, name in CAUGHT_BY.items())]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"{SUITES}::{test}" for test in tests)],
        env={**os.environ, "PYTHONPATH": str(site)},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    outcomes = defaultdict(lambda: {"passed": set(), "failed": set()})
    for case in ElementTree.parse(report).iter("testcase"):
        toy = case.get("classname").partition(".Test")[2]
        outcome = "failed" if case.find("failure") is not None else "passed"
        outcomes[toy][outcome].add(case.get("name").partition("[")[0])
    return outcomes


def test_a_right_potential_passes_everything(outcomes):
    assert outcomes["LennardJones"] == {"passed": PROPERTIES, "failed": set()}


@pytest.mark.parametrize(("toy", "name"), CAUGHT_BY.items())
def test_a_wrong_potential_is_caught(outcomes, toy, name):
    assert name in outcomes[toy]["failed"]


def test_a_chiral_potential_is_caught_by_reflections_alone(outcomes):
    assert outcomes["Chiral"]["failed"] == {"test_reflection"}


def test_every_property_catches_something():
    assert set(CAUGHT_BY.values()) == PROPERTIES
