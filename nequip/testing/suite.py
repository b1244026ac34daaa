"""How properties are checked: on what, how often, and how closely."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nequip.data.frame import Frame
from nequip.model.potential import Potential
from nequip.testing.graphs import KINDS, frames


class PropertySuite(ABC):
    """Says how to make a potential, draws structures for it, and holds the tolerances.

    These are relative to the largest value compared, or to 1 eV, eV/Å, ... where that is smaller; a
    subclass may set them, with a reason.
    """

    energy_only: bool  # whether the suite is for potentials of energies only
    num_examples = 6  # of each kind of structure, for each property
    max_atoms = 5  # in a structure
    symmetry_tolerance = 1e-10  # also of batching and extensivity
    displacement = 1e-4  # Å, all atoms together, and strain, of central differences
    derivative_tolerance = 1e-6  # forces and stress against central differences
    cutoff_step = 1e-8  # to either side of the cutoff, as a share of it
    jump_tolerance = 1e-5  # of energy and forces there, relative to what they are at 0.6 of the cutoff
    parameter_step = 1e-6  # of central differences in the parameters
    parameter_tolerance = 1e-5
    single_precision_tolerance = 1e-4
    smallest_energy = 1e-3  # eV, that neighbors change at the least
    smallest_force = 1e-3  # eV/Å, exerted by neighbors at the least
    floor = 1e-2  # eV, eV/Å, ...: derivatives and float32 are held to what is above

    @abstractmethod
    def make_potential(self) -> Potential:
        """A potential in float64, the same at every call."""

    @pytest.fixture
    def potential(self) -> Potential:
        """A fresh one for each test, in evaluation mode."""
        potential = self.make_potential().eval()
        card = potential.card
        if card.dtype != "float64":
            pytest.fail(f"make_potential must build in float64, not in {card.dtype}.", pytrace=False)
        if card.energy_only != self.energy_only:
            right = "EnergyConformance" if card.energy_only else "PotentialConformance"
            pytest.fail(f"energy_only is {card.energy_only}: subclass {right} instead.", pytrace=False)
        return potential

    def frames(self, potential: Potential, *kinds: str) -> st.SearchStrategy[Frame]:
        """Structures of the elements that `potential` knows."""
        return frames(potential.card.type_names, potential.card.r_max, self.max_atoms, kinds)

    def one_of_each(self, potential: Potential, *kinds: str) -> st.SearchStrategy[tuple[Frame, ...]]:
        """A structure of each kind, to go into one graph."""
        return st.tuples(*(self.frames(potential, kind) for kind in kinds or KINDS))

    def for_all(self, check: Callable[..., None], *strategies: st.SearchStrategy) -> None:
        """Run `check` on what the strategies draw, the same every time."""
        few = settings(max_examples=self.num_examples, derandomize=True, deadline=None)
        few(given(*strategies)(check))()
