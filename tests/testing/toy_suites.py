"""The suites for every toy, in the five lines that each takes; run by test_conformance_catches.py."""

from __future__ import annotations

import toy_potentials
from hypothesis import Phase, settings
from toy_potentials import LennardJones, ToyConfig, build

from nequip.testing import EnergyConformance, PotentialConformance

# That a property fails is enough to know here; which structure is the simplest takes long to find.
settings.register_profile("first failure", phases=[Phase.generate])
settings.load_profile("first failure")


def toy(variant, *, energy_only):
    config = ToyConfig(
        variant=variant,
        type_names=("H", "O"),
        r_max=4.0,
        per_edge_type_cutoff={"H": {"O": 3.0}},
        energy_only=energy_only,
        dtype="float64",
    )
    return build(config)


class ToyEnergies(EnergyConformance):
    variant = "LennardJones"
    num_examples = 3

    def make_potential(self):
        return toy(self.variant, energy_only=True)


class ToyPotential(PotentialConformance):
    variant = "LennardJones"
    num_examples = 3

    def make_potential(self):
        return toy(self.variant, energy_only=False)


class TestForcesWithoutTests(EnergyConformance):
    def make_potential(self):
        return toy("LennardJones", energy_only=False)


class TestTestsWithoutForces(PotentialConformance):
    def make_potential(self):
        return toy("LennardJones", energy_only=True)


for name, kind in vars(toy_potentials).items():
    if isinstance(kind, type) and issubclass(kind, LennardJones):
        for suite in (ToyEnergies, ToyPotential):
            # Test<toy>Energies and Test<toy>Potential
            case = f"Test{name}{suite.__name__.removeprefix('Toy')}"
            globals()[case] = type(case, (suite,), {"variant": name})
