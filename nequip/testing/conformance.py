"""What forces, stress and virial add to the properties of every potential."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from nequip.data.frame import FloatArray, Frame
from nequip.model.potential import Potential
from nequip.testing.comparison import assert_close
from nequip.testing.energies import EnergyConformance, each_kind
from nequip.testing.graphs import seeds
from nequip.testing.predictions import predict, predict_derivatives
from nequip.testing.special import crossings, without_neighbors
from nequip.testing.transforms import displace_frame, strain_frame
from nequip.typing import Float, Tensor


class PotentialConformance(EnergyConformance):
    """For a potential with forces: subclass it, and say how to make one in float64.

    The properties inherited from EnergyConformance hold forces, stress and virial to the same
    symmetries, extensivity, precision and so on as energies; those here are of the derivatives alone.
    """

    energy_only = False

    @each_kind
    def test_derivatives_are_complete(self, potential: Potential, kind: str) -> None:
        """Forces, stress and virial for each structure; stress = -virial / |V|, NaN without a volume."""

        def check(frame: Frame) -> None:
            forces, stress, virial = predict_derivatives(potential, frame)
            assert forces.shape == (frame.num_atoms, 3)
            assert stress.shape == virial.shape == (1, 3, 3)
            assert forces.isfinite().all()
            assert virial.isfinite().all()
            want = -virial / (_volume(frame) or torch.nan)
            assert_close(stress, want, self.symmetry_tolerance, "stress")

        self.for_all(check, self.frames(potential, kind))

    def test_neighbors_exert_forces(self, potential: Potential) -> None:
        """F ≠ 0 within the cutoff: every other property holds of nothing at all."""
        forces: list[float] = []

        def check(frame: Frame) -> None:
            forces.append(float(predict_derivatives(potential, frame).forces.abs().max()))

        self.for_all(check, self.frames(potential, "molecule"))
        assert max(forces) > self.smallest_force, f"no force is above {max(forces):.3g} eV/Å"

    def test_atoms_without_neighbors_feel_nothing(self, potential: Potential) -> None:
        """No edges, no forces: exactly zero for two atoms, one and none; stress and virial alike."""
        for name, frame in without_neighbors(potential).items():
            forces, stress, virial = predict_derivatives(potential, frame)
            assert not forces.any(), f"{name}: forces {forces}"
            assert not virial.any(), f"{name}: virial {virial}"
            assert not stress.any() if any(frame.pbc) else stress.isnan().all(), f"{name}: stress {stress}"

    @each_kind
    def test_forces_are_the_gradient(self, potential: Potential, kind: str) -> None:
        """-F · v = dE/dh under r -> r + h v, for a random |v| = 1 over all atoms."""

        def check(frame: Frame, seed: int) -> None:
            direction = _unit(np.random.default_rng(seed).normal(size=frame.positions.shape))
            slope = self._slope(potential, lambda h: displace_frame(frame, h * direction))
            self._check_work(-predict_derivatives(potential, frame).forces, direction, slope, "forces")

        self.for_all(check, self.frames(potential, kind), seeds())

    @each_kind
    def test_stress_is_the_strain_derivative(self, potential: Potential, kind: str) -> None:
        """-virial : ε = |V| σ : ε = dE/dh under r -> r (1 + h ε), cell alike, ε = εᵀ; both are symmetric."""

        def check(frame: Frame, seed: int) -> None:
            strain = np.random.default_rng(seed).normal(size=(3, 3))
            strain = _unit(strain + strain.T)
            slope = self._slope(potential, lambda h: strain_frame(frame, h * strain))
            _, stress, virial = predict_derivatives(potential, frame)
            assert_close(virial, virial.mT, self.symmetry_tolerance, "transpose of the virial")
            self._check_work(-virial, strain, slope, "virial")
            volume = _volume(frame)
            if volume > 0:
                assert_close(stress, stress.mT, self.symmetry_tolerance, "transpose of the stress")
                self._check_work(volume * stress, strain, slope, "stress")

        self.for_all(check, self.frames(potential, kind), seeds())

    def _slope(self, potential: Potential, structure: Callable[[float], Frame]) -> Float[Tensor, ""]:
        """dE/dh at h = 0 by central differences of fourth order, with neighbors found anew for each."""
        weights = {1: 8, -1: -8, 2: -1, -2: 1}
        energies = predict(potential, *(structure(n * self.displacement) for n in weights)).energy
        return energies @ energies.new_tensor(list(weights.values())) / (12 * self.displacement)

    def _check_work(self, gradient: Tensor, direction: FloatArray, slope: Tensor, what: str) -> None:
        """Relative to the whole gradient: along `direction` little of it may be left."""
        floor = max(self.floor, float(gradient.norm()))
        work = (gradient * torch.tensor(direction)).sum()
        assert_close(work, slope, self.derivative_tolerance, f"work of the {what}", floor=floor)

    def test_forces_are_smooth_at_the_cutoff(self, potential: Potential) -> None:
        """Forces have no jump where a distance passes the cutoff of its pair of types."""
        for pair, *structures in crossings(potential, self.cutoff_step):
            forces = predict_derivatives(potential, *structures).forces
            near, inside, outside = forces.chunk(len(structures))
            self.check_jump(inside - outside, near, f"forces of {pair}")

    @pytest.mark.parametrize("term", ["forces", "virial"])
    def test_gradients_of_losses_on_derivatives(self, potential: Potential, term: str) -> None:
        """∂L/∂θ · v = (L(θ + h v) - L(θ - h v)) / 2h for a loss on forces, and for one on virials."""
        self.check_gradients_of_losses(potential, term)


def _unit(direction: FloatArray) -> FloatArray:
    return direction / np.linalg.norm(direction)


def _volume(frame: Frame) -> float:
    return float(abs(np.linalg.det(frame.cell)))
