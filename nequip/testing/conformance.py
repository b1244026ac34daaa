"""The properties of every potential, one test each; their docstrings state the mathematics."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

import nequip
from nequip.data.frame import FloatArray, Frame
from nequip.model.potential import Potential
from nequip.model.registry import build_potential, get_architecture
from nequip.nn.derivatives import Prediction
from nequip.testing.comparison import assert_close, assert_same_graph, assert_same_prediction
from nequip.testing.graphs import KINDS, orthogonal_matrices, predict, seeds, to_graph
from nequip.testing.special import crossings, without_neighbors
from nequip.testing.suite import PropertySuite
from nequip.testing.training import directional_derivative, perturb_parameters, squared_distance
from nequip.testing.transforms import (
    displace_frame,
    join_frames,
    move_between_images,
    permute_edges,
    permute_frame,
    permute_prediction,
    repeat_frame,
    repeat_prediction,
    rotate_frame,
    rotate_prediction,
    strain_frame,
    translate_frame,
)

each_kind = pytest.mark.parametrize("kind", KINDS)
each_periodic_kind = pytest.mark.parametrize("kind", ["crystal", "slab"])


class PotentialConformance(PropertySuite):
    """Subclass it, and say how to make a potential in float64.

    The architecture must be registered (entry-point group `nequip.models`), since its potential is
    saved, loaded, and built again in float32.
    """

    # What a prediction is

    @each_kind
    def test_prediction_is_complete(self, potential: Potential, kind: str) -> None:
        """E = Σ_i E_i; stress = -virial / |V|, NaN without a volume; float64, finite, without history."""

        def check(frame: Frame) -> None:
            prediction = predict(potential, frame)
            number, volume = frame.num_atoms, float(abs(np.linalg.det(frame.cell)))
            shapes = [(1,), (number,), (number, 3), (1, 3, 3), (1, 3, 3)]
            values = prediction[:2] if potential.card.energy_only else prediction
            assert [tuple(value.shape) for value in values] == shapes[: len(values)]
            assert {value.dtype for value in values} == {torch.float64}
            assert not any(value.requires_grad for value in values)
            assert all(value.isfinite().all() for value in values if value is not prediction.stress)
            total = prediction.atomic_energies.sum().reshape(1)
            assert_close(prediction.energy, total, self.symmetry_tolerance, "energy")
            if not potential.card.energy_only:
                want = -prediction.virial / (volume or torch.nan)
                assert_close(prediction.stress, want, self.symmetry_tolerance, "stress")

        self.for_all(check, self.frames(potential, kind))

    def test_neighbors_exert_forces(self, potential: Potential) -> None:
        """F ≠ 0 within the cutoff: every other property holds of nothing at all."""
        _skip_without_forces(potential)
        forces = []

        def check(frame: Frame) -> None:
            forces.append(float(predict(potential, frame).forces.abs().max()))

        self.for_all(check, self.frames(potential, "molecule"))
        assert max(forces) > self.smallest_force, f"no force is above {max(forces):.3g} eV/Å"

    # Symmetries

    @each_kind
    def test_rotation(self, potential: Potential, kind: str) -> None:
        """E(QR) = E(R), F(QR) = Q F(R), σ(QR) = Q σ(R) Qᵀ for QQᵀ = 1, det Q = 1."""
        self._check(potential, kind, rotate_frame, orthogonal_matrices(1), rotate_prediction)

    @each_kind
    def test_reflection(self, potential: Potential, kind: str) -> None:
        """E(QR) = E(R), F(QR) = Q F(R), σ(QR) = Q σ(R) Qᵀ for QQᵀ = 1, det Q = -1."""
        self._check(potential, kind, rotate_frame, orthogonal_matrices(-1), rotate_prediction)

    @each_kind
    def test_permutation_of_atoms(self, potential: Potential, kind: str) -> None:
        """E(PR) = E(R), F(PR) = P F(R): atoms have no order."""
        self._check(potential, kind, permute_frame, seeds(), permute_prediction)

    @each_kind
    def test_translation(self, potential: Potential, kind: str) -> None:
        """r_i -> r_i + t changes nothing."""
        self._check(potential, kind, translate_frame, seeds())

    @each_periodic_kind
    def test_translation_by_lattice_vectors(self, potential: Potential, kind: str) -> None:
        """r_i -> r_i + n_i · cell, with whole n_i of its own for each atom, changes nothing."""
        self._check(potential, kind, move_between_images, seeds())

    def _check(
        self,
        potential: Potential,
        kind: str,
        change: Callable[[Frame, Any], Frame],
        by: st.SearchStrategy,
        outcome: Callable[[Prediction, Any], Prediction] = lambda prediction, _: prediction,
    ) -> None:
        """potential(change(R, g)) = outcome(potential(R), g), for what is drawn from `by` as g."""

        def check(frame: Frame, g: Any) -> None:
            want = outcome(predict(potential, frame), g)
            assert_same_prediction(predict(potential, change(frame, g)), want, self.symmetry_tolerance)

        self.for_all(check, self.frames(potential, kind), by)

    @each_kind
    def test_permutation_of_edges(self, potential: Potential, kind: str) -> None:
        """The neighbors of an atom have no order."""

        def check(frame: Frame, seed: int) -> None:
            graph = to_graph(potential, frame)
            got = potential(permute_edges(graph, seed))
            assert_same_prediction(got, potential(graph), self.symmetry_tolerance)

        self.for_all(check, self.frames(potential, kind), seeds())

    # Extensivity

    def test_batch_equals_single(self, potential: Potential) -> None:
        """Structures in one graph do not see each other, whatever their order; empty ones are among them."""

        def check(drawn: tuple[Frame, ...], seed: int) -> None:
            structures = [*drawn, *without_neighbors(potential).values()]
            np.random.default_rng(seed).shuffle(structures)
            singles = zip(*(predict(potential, frame) for frame in structures), strict=True)
            want = Prediction(*(None if values[0] is None else torch.cat(values) for values in singles))
            assert_same_prediction(predict(potential, *structures), want, self.symmetry_tolerance)

        self.for_all(check, self.one_of_each(potential), seeds())

    def test_far_structures_add(self, potential: Potential) -> None:
        """E(A ∪ B) = E(A) + E(B) for A far from B; virials add, forces and atomic energies stay."""
        molecules = self.frames(potential, "molecule").map(_without_cell)

        def check(first: Frame, second: Frame) -> None:
            distance = np.ptp(first.positions) + np.ptp(second.positions) + 20 * potential.card.r_max
            far = displace_frame(second, np.array([distance, 0.0, 0.0]))
            apart, together = predict(potential, first, far), predict(potential, join_frames(first, far))
            virial = None if apart.virial is None else apart.virial.sum(0, keepdim=True)
            want = apart._replace(
                energy=apart.energy.sum(0, keepdim=True), stress=together.stress, virial=virial
            )
            assert_same_prediction(together, want, self.symmetry_tolerance)

        self.for_all(check, molecules, molecules)

    @each_periodic_kind
    def test_supercell(self, potential: Potential, kind: str) -> None:
        """n cells have n times the energy and the virial of one, the same forces and the same stress."""

        def check(frame: Frame) -> None:
            repeats = [1 + periodic for periodic in frame.pbc]
            want = repeat_prediction(predict(potential, frame), int(np.prod(repeats)))
            got = predict(potential, repeat_frame(frame, repeats))
            assert_same_prediction(got, want, self.symmetry_tolerance)

        self.for_all(check, self.frames(potential, kind))

    def test_atoms_without_neighbors(self, potential: Potential) -> None:
        """No edges, no forces: exactly zero for two atoms, one and none; no atoms, no energy."""
        for name, frame in without_neighbors(potential).items():
            energy, _, forces, stress, virial = predict(potential, frame)
            assert energy.isfinite().all(), f"{name}: energy {energy}"
            assert frame.num_atoms or not energy.any(), f"{name}: energy {energy}"
            if potential.card.energy_only:
                continue
            assert not forces.any(), f"{name}: forces {forces}"
            assert not virial.any(), f"{name}: virial {virial}"
            assert not stress.any() if any(frame.pbc) else stress.isnan().all(), f"{name}: stress {stress}"

    # Derivatives

    @each_kind
    def test_forces_are_the_gradient(self, potential: Potential, kind: str) -> None:
        """-F · v = dE/dh under r -> r + h v, for a random |v| = 1 over all atoms."""
        _skip_without_forces(potential)

        def check(frame: Frame, seed: int) -> None:
            direction = _unit(np.random.default_rng(seed).normal(size=frame.positions.shape))
            slope = self._slope(potential, lambda h: displace_frame(frame, h * direction))
            self._check_work(-predict(potential, frame).forces, direction, slope, "forces")

        self.for_all(check, self.frames(potential, kind), seeds())

    @each_kind
    def test_stress_is_the_strain_derivative(self, potential: Potential, kind: str) -> None:
        """-virial : ε = |V| σ : ε = dE/dh under r -> r (1 + h ε), cell alike, ε = εᵀ; both are symmetric."""
        _skip_without_forces(potential)

        def check(frame: Frame, seed: int) -> None:
            strain = np.random.default_rng(seed).normal(size=(3, 3))
            strain = _unit(strain + strain.T)
            slope = self._slope(potential, lambda h: strain_frame(frame, h * strain))
            _, _, _, stress, virial = predict(potential, frame)
            assert_close(virial, virial.mT, self.symmetry_tolerance, "transpose of the virial")
            self._check_work(-virial, strain, slope, "virial")
            volume = float(abs(np.linalg.det(frame.cell)))
            if volume > 0:
                assert_close(stress, stress.mT, self.symmetry_tolerance, "transpose of the stress")
                self._check_work(volume * stress, strain, slope, "stress")

        self.for_all(check, self.frames(potential, kind), seeds())

    def _slope(self, potential: Potential, structure: Callable[[float], Frame]) -> torch.Tensor:
        """dE/dh at h = 0 by central differences of fourth order, with neighbors found anew for each."""
        weights = {1: 8, -1: -8, 2: -1, -2: 1}
        energies = predict(potential, *(structure(n * self.displacement) for n in weights)).energy
        return energies @ energies.new_tensor(list(weights.values())) / (12 * self.displacement)

    def _check_work(
        self, gradient: torch.Tensor, direction: FloatArray, slope: torch.Tensor, what: str
    ) -> None:
        """Relative to the whole gradient: along `direction` little of it may be left."""
        floor = max(self.floor, float(gradient.norm()))
        work = (gradient * torch.tensor(direction)).sum()
        assert_close(work, slope, self.derivative_tolerance, f"work of the {what}", floor=floor)

    def test_smooth_at_the_cutoff(self, potential: Potential) -> None:
        """Energy and forces have no jump where a distance passes the cutoff of its pair of types."""
        for pair, *structures in crossings(potential, self.cutoff_step):
            near, inside, outside = (predict(potential, frame) for frame in structures)
            scales = {"energy": near.energy - outside.energy, "forces": near.forces}
            for name, scale in scales.items():
                if scale is None:
                    continue
                jump = float((getattr(inside, name) - getattr(outside, name)).detach().abs().max())
                allowed = self.jump_tolerance * max(self.floor, float(scale.detach().abs().max()))
                assert jump <= allowed, f"{name} of {pair} jumps by {jump:.3g} at the cutoff"

    def test_flags_of_autograd_change_nothing(self, potential: Potential) -> None:
        """Tracked inputs, frozen weights, no_grad and training give the same numbers; inputs stay."""

        def check(structures: tuple[Frame, ...]) -> None:
            graph = to_graph(potential, *structures)
            want, before = potential(graph), deepcopy(graph)
            tracked = {name: getattr(graph, name).clone().requires_grad_() for name in ("positions", "cell")}
            others = [
                potential(graph._replace(**tracked)),
                deepcopy(potential).requires_grad_(False)(graph),
                deepcopy(potential).train()(graph),
            ]
            with torch.no_grad():
                others.append(potential(graph))
            for got in others:
                assert_same_prediction(got, want, self.symmetry_tolerance)
            assert_same_graph(graph, before)

        self.for_all(check, self.one_of_each(potential))

    # Files, seeds, precision

    def test_save_and_load(self, potential: Potential, tmp_path: Path) -> None:
        """A file gives bitwise the same predictions, also with weights that the seed does not give."""
        perturb_parameters(potential)
        potential.save(tmp_path / "potential.nequip")
        loaded = nequip.load(tmp_path / "potential.nequip").eval()
        assert loaded.card.config == potential.card.config
        assert loaded.cutoffs == potential.cutoffs

        def check(structures: tuple[Frame, ...]) -> None:
            got, want = predict(loaded, *structures), predict(potential, *structures)
            assert_same_prediction(got, want, tolerance=0)

        self.for_all(check, self.one_of_each(potential))

    def test_same_input_same_bits(self, potential: Potential) -> None:
        """Two calls on one graph agree bitwise."""

        def check(structures: tuple[Frame, ...]) -> None:
            graph = to_graph(potential, *structures)
            assert_same_prediction(potential(graph), potential(graph), tolerance=0)

        self.for_all(check, self.one_of_each(potential))

    def test_same_seed_same_weights(self) -> None:
        """A configuration fixes its weights, whatever the state of the global random numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            first = self.make_potential().state_dict()
            torch.manual_seed(2)
            second = self.make_potential().state_dict()
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]), f"{name} differs from build to build"

    def test_single_precision(self, potential: Potential) -> None:
        """Built in float32 with the same weights, it agrees loosely with float64."""
        architecture = get_architecture(potential.card.architecture)
        config = architecture.config.model_validate({**potential.card.config, "dtype": "float32"})
        single = build_potential(config).eval()
        single.load_state_dict(potential.state_dict())
        assert any(parameter.dtype == torch.float32 for parameter in single.parameters())

        def check(structures: tuple[Frame, ...]) -> None:
            got, want = predict(single, *structures), predict(potential, *structures)
            assert_same_prediction(got, want, self.single_precision_tolerance, floor=self.floor)

        self.for_all(check, self.one_of_each(potential, "molecule", "crystal"))

    # Training

    def test_losses_reach_every_parameter(self, potential: Potential) -> None:
        """∂L/∂θ is there and finite for every θ, L a loss on energies, forces and virials together."""
        potential.train()

        def check(structures: tuple[Frame, ...]) -> None:
            energy, _, forces, _, virial = predict(potential, *structures)
            loss = sum(squared_distance(value) for value in (energy, forces, virial) if value is not None)
            names, parameters = zip(*potential.named_parameters(), strict=True)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for name, gradient in zip(names, gradients, strict=True):
                assert gradient is not None, f"no loss reaches {name}"
                assert gradient.isfinite().all(), f"the gradient of {name} is not finite"

        self.for_all(check, self.one_of_each(potential))

    @pytest.mark.parametrize("term", ["energy", "forces", "virial"])
    def test_gradients_of_losses(self, potential: Potential, term: str) -> None:
        """∂L/∂θ · v = (L(θ + h v) - L(θ - h v)) / 2h for a random v over all parameters."""
        if term != "energy":
            _skip_without_forces(potential)
        potential.train()

        def check(structures: tuple[Frame, ...]) -> None:
            graph = to_graph(potential, *structures)
            scale = getattr(potential(graph), term).detach().abs().max()
            got, want = directional_derivative(
                lambda: squared_distance(getattr(potential(graph), term) / scale),
                potential,
                self.parameter_step,
            )
            assert_close(
                got, want, self.parameter_tolerance, f"gradient of a loss on {term}", floor=self.floor
            )

        self.for_all(check, self.one_of_each(potential, "molecule", "crystal"))


def _skip_without_forces(potential: Potential) -> None:
    if potential.card.energy_only:
        pytest.skip("a potential of energies only")


def _unit(direction: FloatArray) -> FloatArray:
    return direction / np.linalg.norm(direction)


def _without_cell(frame: Frame) -> Frame:
    return replace(frame, cell=np.zeros((3, 3)))
