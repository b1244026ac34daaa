"""The suite for every toy, in the five lines that it takes; run by test_conformance_catches.py."""

from __future__ import annotations

import toy_potentials
from hypothesis import Phase, settings
from toy_potentials import LennardJones, ToyConfig, build

from nequip.testing import PotentialConformance

# That a property fails is enough to know here; which structure is the simplest takes long to find.
settings.register_profile("first failure", phases=[Phase.generate])
settings.load_profile("first failure")


class ToyConformance(PotentialConformance):
    variant = "LennardJones"
    num_examples = 4

    def make_potential(self):
        config = ToyConfig(
            variant=self.variant,
            type_names=("H", "O"),
            r_max=4.0,
            per_edge_type_cutoff={"H": {"O": 3.0}},
            dtype="float64",
        )
        return build(config)


for name, toy in vars(toy_potentials).items():
    if isinstance(toy, type) and issubclass(toy, LennardJones):
        globals()[f"Test{name}"] = type(f"Test{name}", (ToyConformance,), {"variant": name})
