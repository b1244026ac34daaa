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
from nequip.data.frame import Frame
from nequip.model.potential import Potential
from nequip.model.registry import build_potential, get_architecture
from nequip.nn.derivatives import Prediction
from nequip.testing.comparison import assert_close, assert_same_graph, assert_same_prediction
from nequip.testing.graphs import KINDS, orthogonal_matrices, seeds
from nequip.testing.predictions import predict, to_graph
from nequip.testing.special import crossings, without_neighbors
from nequip.testing.suite import PropertySuite
from nequip.testing.training import directional_derivative, perturb_parameters, squared_distance
from nequip.testing.transforms import (
    concatenate_predictions,
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
    take_apart,
    translate_frame,
)
from nequip.typing import Tensor

each_kind = pytest.mark.parametrize("kind", KINDS)
each_periodic_kind = pytest.mark.parametrize("kind", ["crystal", "slab"])


class EnergyConformance(PropertySuite):
    """For a potential of energies only: subclass it, and say how to make one in float64.

    All that is predicted is compared: in PotentialConformance, which extends this suite, forces,
    stress and virial as well. The architecture must be registered (entry-point group
    `nequip.models`), since its potential is saved, loaded, and built again in float32.
    """

    energy_only = True

    # What a prediction is

    @each_kind
    def test_prediction_is_complete(self, potential: Potential, kind: str) -> None:
        """E = Σ_i E_i; float64, finite, without history, and with derivatives or without as the card says."""

        def check(frame: Frame) -> None:
            prediction = predict(potential, frame)
            energy, atomic_energies = prediction.energy, prediction.atomic_energies
            derivatives = (prediction.forces, prediction.stress, prediction.virial)
            values = [value for value in prediction if value is not None]
            assert energy.shape == (1,)
            assert atomic_energies.shape == (frame.num_atoms,)
            assert all((value is None) == self.energy_only for value in derivatives)
            assert {value.dtype for value in values} == {torch.float64}
            assert not any(value.requires_grad for value in values)
            assert energy.isfinite().all()
            assert atomic_energies.isfinite().all()
            assert_close(energy, atomic_energies.sum().reshape(1), self.symmetry_tolerance, "energy")

        self.for_all(check, self.frames(potential, kind))

    def test_neighbors_change_the_energy(self, potential: Potential) -> None:
        """E(R) is not that of the same atoms far apart: every other property holds of nothing at all."""
        changes: list[float] = []

        def check(frame: Frame) -> None:
            bonded, apart = predict(potential, frame, take_apart(frame, 2 * potential.card.r_max)).energy
            changes.append(float((bonded - apart).abs()))

        self.for_all(check, self.frames(potential, "molecule"))
        assert max(changes) > self.smallest_energy, f"no energy changes by more than {max(changes):.3g} eV"

    # Symmetries

    @each_kind
    def test_rotation(self, potential: Potential, kind: str) -> None:
        """E(QR) = E(R), F(QR) = Q F(R), σ(QR) = Q σ(R) Qᵀ for QQᵀ = 1, det Q = 1."""
        self._check_symmetry(potential, kind, rotate_frame, orthogonal_matrices(1), rotate_prediction)

    @each_kind
    def test_reflection(self, potential: Potential, kind: str) -> None:
        """E(QR) = E(R), F(QR) = Q F(R), σ(QR) = Q σ(R) Qᵀ for QQᵀ = 1, det Q = -1."""
        self._check_symmetry(potential, kind, rotate_frame, orthogonal_matrices(-1), rotate_prediction)

    @each_kind
    def test_permutation_of_atoms(self, potential: Potential, kind: str) -> None:
        """E(PR) = E(R), F(PR) = P F(R): atoms have no order."""
        self._check_symmetry(potential, kind, permute_frame, seeds(), permute_prediction)

    @each_kind
    def test_translation(self, potential: Potential, kind: str) -> None:
        """r_i -> r_i + t changes nothing."""
        self._check_symmetry(potential, kind, translate_frame, seeds())

    @each_periodic_kind
    def test_translation_by_lattice_vectors(self, potential: Potential, kind: str) -> None:
        """r_i -> r_i + n_i · cell, with whole n_i of its own for each atom, changes nothing."""
        self._check_symmetry(potential, kind, move_between_images, seeds())

    def _check_symmetry(
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
            want = concatenate_predictions([predict(potential, frame) for frame in structures])
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
        """Two atoms without an edge, one and none have a finite energy; no atoms, no energy."""
        for name, frame in without_neighbors(potential).items():
            energy = predict(potential, frame).energy
            assert energy.isfinite().all(), f"{name}: energy {energy}"
            assert frame.num_atoms or not energy.any(), f"{name}: energy {energy}"

    # Smoothness and autograd

    def test_smooth_at_the_cutoff(self, potential: Potential) -> None:
        """The energy has no jump where a distance passes the cutoff of its pair of types."""
        for pair, *structures in crossings(potential, self.cutoff_step):
            near, inside, outside = predict(potential, *structures).energy
            self.check_jump(inside - outside, near - outside, f"energy of {pair}")

    def check_jump(self, jump: Tensor, scale: Tensor, what: str) -> None:
        """`jump` is small beside `scale`."""
        allowed = self.jump_tolerance * max(self.floor, float(scale.detach().abs().max()))
        found = float(jump.detach().abs().max())
        assert found <= allowed, f"{what} jumps by {found:.3g} at the cutoff"

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
            prediction = predict(potential, *structures)
            outputs = (prediction.energy, prediction.forces, prediction.virial)
            terms = [squared_distance(value) for value in outputs if value is not None]
            names, parameters = zip(*potential.named_parameters(), strict=True)
            gradients = torch.autograd.grad(torch.stack(terms).sum(), parameters, allow_unused=True)
            for name, gradient in zip(names, gradients, strict=True):
                assert gradient is not None, f"no loss reaches {name}"
                assert gradient.isfinite().all(), f"the gradient of {name} is not finite"

        self.for_all(check, self.one_of_each(potential))

    def test_gradients_of_energy_losses(self, potential: Potential) -> None:
        """∂L/∂θ · v = (L(θ + h v) - L(θ - h v)) / 2h for a loss on energies, v random over all parameters."""
        self.check_gradients_of_losses(potential, "energy")

    def check_gradients_of_losses(self, potential: Potential, term: str) -> None:
        """The gradient of a loss on `term`, an output of the potential, against a central difference."""
        potential.train()

        def check(structures: tuple[Frame, ...]) -> None:
            graph = to_graph(potential, *structures)
            scale = getattr(potential(graph), term).detach().abs().max()
            got, want = directional_derivative(
                lambda: squared_distance(getattr(potential(graph), term) / scale),
                potential,
                self.parameter_step,
            )
            what = f"gradient of a loss on {term}"
            assert_close(got, want, self.parameter_tolerance, what, floor=self.floor)

        self.for_all(check, self.one_of_each(potential, "molecule", "crystal"))


def _without_cell(frame: Frame) -> Frame:
    return replace(frame, cell=np.zeros((3, 3)))
