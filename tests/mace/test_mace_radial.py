"""Bases and transforms of lengths, and the repulsion, where their definition decides."""

from __future__ import annotations

from math import cosh, exp

import numpy as np
import pytest
import torch
from ase.data import covalent_radii

from mace_ext.radial import ChebyshevBasis, CovalentRadii, GaussianBasis, agnesi, soft
from mace_ext.repulsion import PairRepulsion
from nequip.data.frame import Frame
from nequip.data.neighbors import Cutoffs, TypeMapper, build_graph
from nequip.nn.geometry import edge_geometry


def length(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_chebyshev_polynomials_are_of_the_length_in_angstrom():
    angle, beyond = length(0.3, 1.1), length(0.7)
    orders = torch.arange(1, 6)
    inside = ChebyshevBasis(5, 4.0)(torch.cos(angle) / 4.0)
    torch.testing.assert_close(inside, torch.cos(angle.unsqueeze(1) * orders))
    outside = ChebyshevBasis(5, 4.0)(torch.cosh(beyond) / 4.0)
    assert outside[0].tolist() == pytest.approx([cosh(0.7 * n) for n in range(1, 6)], rel=1e-12)


def test_gaussians_overlap_at_one_deviation():
    values = GaussianBasis(5)(length(0.25))
    assert values[0].tolist() == pytest.approx([exp(-0.5 * n**2) for n in (-1, 0, 1, 2, 3)], rel=1e-12)


def test_agnesi_falls_from_one_to_zero():
    values = agnesi(length(1e-6, 0.7, 1.4, 2.8, 1e6), length(1.4))
    assert values[0].item() == pytest.approx(1, abs=1e-9)
    assert (values.diff() < 0).all()
    assert values[-1] < 1e-4
    half_a_bond = agnesi(length(0.7), length(1.4)).item()
    assert half_a_bond == pytest.approx(1 / (1 + 1.0805 / 2), rel=1e-12)


def test_soft_keeps_long_lengths_and_clamps_short_ones():
    bond = 1.5
    values = soft(length(0.0, 5.0, bond * (3 / 4 + 4 / 3) / 2), length(bond))
    middle, low = bond * (3 / 4 + 4 / 3) / 2, 0.75 * bond
    assert values.tolist() == pytest.approx([low, 5.0, low + (middle - low) / 2], abs=5e-3)


def test_every_pair_has_a_number_and_its_bond():
    radii = CovalentRadii(("H", "C", "O"))
    first, second = torch.tensor([0, 1, 2, 2, 0, 1]), torch.tensor([0, 0, 0, 1, 2, 1])
    pair = radii.pair(first, second)
    assert pair.tolist() == [0, 1, 3, 4, 3, 2]
    assert [radii.of_pairs()[number] for number in pair.tolist()] == radii(first, second).tolist()
    assert radii.of_pairs()[3] == covalent_radii[1] + covalent_radii[8]


def test_nuclei_repel_up_to_the_sum_of_their_radii():
    reach = covalent_radii[6] + covalent_radii[8]
    repulsion = PairRepulsion(("C", "O"), cutoff_p=5)
    energies: list[torch.Tensor] = []
    for share in (0.3, 0.6, 0.99, 1.01):
        frame = Frame(np.array([6, 8]), np.array([[0, 0, 0], [share * reach, 0, 0]]))
        graph = build_graph(frame, TypeMapper(("C", "O")), Cutoffs(5.0))
        bond = CovalentRadii(("C", "O"))(graph.types[graph.center], graph.types[graph.neighbor])
        energies.append(repulsion(graph, edge_geometry(graph).length, bond))
    near, middle, touching, apart = (energy.tolist() for energy in energies)
    assert near[0] == near[1] > middle[0] > touching[0] > 0
    assert apart == [0, 0]
