"""The MACE model: presets, seeds, heads, irreps, and what its configuration refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule
from pydantic import ValidationError

from mace_ext.config import PRESETS, MACEConfig
from mace_ext.model import MACE, build
from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import ModelError
from nequip.model.rebuild import rebuild
from nequip.nn.exchange import owners
from nequip.o3 import Irreps

RESOLVED = {
    "type_names": ("H", "C", "O"),
    "r_max": 4.0,
    "avg_num_neighbors": 10.0,
    "per_type_energy_scales": 2.0,
    "per_type_energy_shifts": {"H": -1.0, "C": -6.0, "O": -4.0},
    "interaction_shift": -0.5,
    "dtype": "float64",
}
TINY = {"hidden_irreps": "4x0e+4x1o", "l_max": 2, "correlation": 2, "radial_mlp": (8,)}


def config(**keys: object) -> MACEConfig:
    return MACEConfig.model_validate(RESOLVED | keys)


def tiny(**keys: object) -> MACE:
    return build(config(**TINY | keys)).eval()


def ethanol(potential: MACE) -> AtomicGraph:
    atoms = molecule("CH3CH2OH")
    frame = Frame(atoms.numbers, atoms.positions)
    return build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)


@pytest.mark.parametrize("size", PRESETS)
def test_presets_have_their_shape(size):
    chosen = config(size=size)
    assert str(chosen.features(0)) == PRESETS[size]["hidden_irreps"]
    assert (chosen.num_layers, chosen.l_max, chosen.correlations) == (2, 3, (3, 3))


def test_a_key_given_beside_the_size_wins():
    assert config(size="large", hidden_irreps="8x0e").num_features == 8


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    first = tiny(seed=1)
    torch.manual_seed(6)
    again, other = tiny(seed=1), tiny(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.products[0].weight, other.products[0].weight)


def test_first_weights_of_products_are_as_large_as_published_ones():
    """For 0e of messages up to l = 3: 1, 4 and 23 couplings, and 1, 4 and 8 different polynomials."""
    shape = {"hidden_irreps": "512x0e", "l_max": 3, "correlation": 3, "radial_mlp": (8,)}
    product = build(config(**shape)).products[0]
    deviations = product.weight.unflatten(1, (-1, 512)).std((0, 2)).tolist()
    assert deviations == pytest.approx([1.0, *[1 / 4] * 4, *[1 / 23] * 8], rel=0.1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden_irreps": "8x0e+4x1o"}, "has to begin with 0e, and to have as many channels"),
        ({"hidden_irreps": "8x1o+8x0e"}, "has to begin with 0e"),
        ({"hidden_irreps": "8x0e+8x1o+8x1o"}, "names an irrep twice"),
        ({"hidden_irreps": "8x0s"}, "not an irrep"),
        ({"correlation": 5}, "from 1 to 4"),
        ({"correlation": (2, 3, 3)}, "correlation has 3 entries but num_layers=2"),
        ({"heads": ("dft", "dft")}, "have to be different names"),
        ({"heads": ()}, "heads are none"),
        ({"interaction": "attention"}, "interaction"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        config(**keys)


def test_messages_have_natural_parity_unless_features_have_pseudoscalars():
    natural, both = (
        config(hidden_irreps="4x0e+4x1o+4x1e", l_max=1),
        config(hidden_irreps="4x0e+4x0o", l_max=1),
    )
    assert [str(natural.messages(index)) for index in (0, 1)] == ["4x0e+4x1o"] * 2
    assert [str(both.messages(index)) for index in (0, 1)] == ["4x0e+4x1o", "4x0o+4x0e+4x1o+4x1e"]
    assert both.features(1) == Irreps("4x0e")


def test_heads_share_layers_and_differ_in_readouts():
    potential = tiny(heads=("dft", "cc"))
    graph = ethanol(potential)
    asked = [graph._replace(head=torch.tensor([head])) for head in (0, 1, 0)]
    first, second, again = potential(collate(asked)).energy.tolist()
    assert first == again == pytest.approx(potential(graph).energy.item(), abs=1e-12)
    assert abs(first - second) > 1e-3


def test_a_potential_with_other_elements_and_heads_says_the_same_of_what_it_knew():
    potential = tiny(heads=("dft", "cc"), first_interaction="residual")
    larger = rebuild(potential, ("N", "O", "C", "H", "S"), ("new", "cc", "dft"))
    graphs = ethanol(potential), ethanol(larger)
    for mine, theirs in ((0, 2), (1, 1)):
        want = potential(graphs[0]._replace(head=torch.tensor([mine]))).energy
        got = larger(graphs[1]._replace(head=torch.tensor([theirs]))).energy
        torch.testing.assert_close(got, want, atol=1e-10, rtol=0)


def test_the_interaction_shift_is_of_every_atom():
    assert tiny(heads=("dft", "cc")).energy_shifts.tolist() == [[-1.5, -6.5, -4.5]] * 2


def test_energy_shifts_are_energies_of_atoms_that_can_be_changed():
    potential = tiny(heads=("dft", "cc"))
    graph = ethanol(potential)
    before = potential(graph).energy
    potential.energy_shifts[0, 0] += 0.5  # six hydrogen atoms
    assert (potential(graph).energy - before).item() == pytest.approx(3.0, abs=1e-10)


@pytest.mark.parametrize("interaction", ["plain", "residual", "density", "density_residual"])
def test_ghosts_change_nothing(interaction):
    """An atom is divided from its copy: its neighbors hear the copy instead."""
    potential = tiny(num_layers=3, first_interaction=interaction, interaction=interaction)
    graph = ethanol(potential)
    whole = potential.atomic_energies(graph)
    copied = graph.num_atoms + graph.neighbor  # every neighbor is a ghost
    divided = graph._replace(
        positions=graph.positions.repeat(2, 1),
        types=graph.types.repeat(2),
        batch=graph.batch.repeat(2),
        neighbor=copied,
        transpose=copied.argsort(stable=True),
    )
    with owners(torch.arange(graph.num_atoms)):
        torch.testing.assert_close(potential.atomic_energies(divided), whole, atol=1e-11, rtol=0)


@pytest.mark.parametrize("transform", [None, "agnesi", "soft"])
def test_tables_of_radial_networks_agree(transform):
    potential = tiny(distance_transform=transform, interaction="density_residual", num_basis=4)
    graph = ethanol(potential)
    exact = potential(graph)
    assert potential.tabulate_radial(1e-8) < 1e-8
    tabulated = potential(graph)
    assert not torch.equal(tabulated.forces, exact.forces)
    torch.testing.assert_close(tabulated.energy, exact.energy, atol=1e-6, rtol=0)
    torch.testing.assert_close(tabulated.forces, exact.forces, atol=1e-6, rtol=0)


def test_forces_are_the_gradient_of_energies_from_tables_of_pairs():
    potential = tiny(distance_transform="agnesi", num_basis=4)
    potential.tabulate_radial(1e-3)  # coarse, so that the network would show
    graph = ethanol(potential)
    forces, step = potential(graph).forces, 1e-4
    for atom, axis in ((0, 0), (2, 1)):
        shifts = [torch.zeros_like(graph.positions) for _ in range(2)]
        shifts[0][atom, axis], shifts[1][atom, axis] = step, -step
        ahead, behind = (
            potential(graph._replace(positions=graph.positions + shift)).energy.item() for shift in shifts
        )
        assert forces[atom, axis].item() == pytest.approx((behind - ahead) / (2 * step), abs=1e-6)


def test_edges_beyond_the_cutoff_add_nothing_to_tables_of_pairs():
    potential = tiny(distance_transform="soft", num_basis=4)
    potential.tabulate_radial(1e-6)
    frame = Frame(np.array([6, 8]), np.array([[0, 0, 0], [potential.card.r_max + 0.1, 0, 0]]))
    mapper = TypeMapper(potential.card.type_names)
    near, far = (
        build_graph(frame, mapper, type(potential.cutoffs)(potential.card.r_max + skin)) for skin in (0, 0.5)
    )
    assert (near.num_edges, far.num_edges) == (0, 2)
    torch.testing.assert_close(potential(far).energy, potential(near).energy, atol=1e-9, rtol=0)


def test_tables_for_many_pairs_of_elements_are_refused():
    names = ("H", "C", "N", "O", "F", "Si", "P", "S", "Cl")
    shifts = dict.fromkeys(names, 0.0)
    potential = tiny(distance_transform="agnesi", type_names=names, per_type_energy_shifts=shifts)
    with pytest.raises(ModelError, match="no tables for more than 8"):
        potential.tabulate_radial()
