"""Ghosts: features of atoms that others own, and potentials of divided structures."""

from __future__ import annotations

import pytest
import torch
from small_artefacts import small_potential

from nequip.data.copies import with_ghosts
from nequip.errors import ModelError
from nequip.export.structures import comparison_graphs
from nequip.nn.exchange import exchange, owners

OWNER = torch.tensor([2, 0, 2])


def test_without_ghosts_nothing_is_done():
    h = torch.randn(4, 2)
    assert exchange(h, 4) is h


def test_ghosts_get_the_rows_of_their_owners():
    h = torch.randn(4, 2)
    with owners(OWNER):
        assert torch.equal(exchange(h, 7), torch.cat([h, h[OWNER]]))


def test_the_derivatives_are_right_to_second_order():
    h = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    with owners(OWNER):
        assert torch.autograd.gradcheck(lambda h: exchange(h, 7).sin(), h)
        assert torch.autograd.gradgradcheck(lambda h: exchange(h, 7).sin(), h)


def test_ghosts_of_unknown_atoms_are_told_in_a_sentence():
    with pytest.raises(ModelError, match="3 ghosts, of atoms that are not known"):
        exchange(torch.randn(4, 2), 7)


@pytest.mark.parametrize("architecture", ["nequip", "allegro", "mace"])
def test_a_periodic_structure_is_the_same_with_ghosts_for_images(architecture):
    potential = small_potential(architecture, "float64").eval()
    graph = comparison_graphs(potential.card.type_names, potential.cutoffs)["a crystal of 8 atoms"]
    unfolded, owner = with_ghosts(graph)
    whole = potential(graph)
    with owners(owner):
        divided = potential(unfolded)
    torch.testing.assert_close(divided.energy, whole.energy)
    torch.testing.assert_close(divided.atomic_energies, whole.atomic_energies)
    forces, ghosts = divided.forces.split([8, len(owner)])
    torch.testing.assert_close(forces.index_add(0, owner, ghosts), whole.forces)
