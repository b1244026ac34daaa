"""Radial networks as tables of splines: as exact as asked, smooth, and gone when training begins."""

from __future__ import annotations

import pytest
import torch
from ase.build import bulk, molecule

from nequip.calculators import NequIPCalculator
from nequip.data.frame import Frame
from nequip.data.graph import AtomicGraph, collate
from nequip.data.neighbors import TypeMapper, build_graph
from nequip.errors import ModelError
from nequip.kernels.tensor_product.tabulated import evaluate
from nequip.model.nequip import NequIPConfig
from nequip.model.potential import Potential
from nequip.model.registry import build_potential
from nequip.nn.radial_table import tabulate


def make_potential(dtype: str = "float64", backend: str = "auto") -> Potential:
    config = NequIPConfig(
        type_names=("H", "C", "O"),
        r_max=4.0,
        num_layers=3,
        l_max=2,
        num_features=5,
        radial_mlp_width=16,
        radial_mlp_depth=2,
        avg_num_neighbors=6.0,
        per_type_energy_scales=None,
        per_type_energy_shifts=None,
        dtype=dtype,
        backend=backend,
    )
    return build_potential(config).eval()


def ethanol(potential: Potential) -> AtomicGraph:
    atoms = molecule("CH3CH2OH")
    frame = Frame(atoms.numbers, atoms.positions, atoms.cell.array, (False,) * 3)
    return collate([build_graph(frame, TypeMapper(potential.card.type_names), potential.cutoffs)])


def smooth(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.sin(9 * x) * (1 - x) ** 3, torch.exp(-x) * (1 - x) ** 4], dim=1)


def test_a_table_reaches_the_error_asked_for():
    x = torch.linspace(0.06, 1.0, 777, dtype=torch.float64)
    for tolerance in (1e-4, 1e-7, 1e-10):
        table, error = tabulate(smooth, tolerance)
        assert error < tolerance
        difference = evaluate(table.knots, table.position(x)) - smooth(x)
        assert difference.abs().max() < 2 * tolerance


def test_a_finer_table_is_made_only_where_it_is_needed():
    sizes = [tabulate(smooth, tolerance)[0].knots.shape[0] for tolerance in (1e-4, 1e-7, 1e-10)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def kinked(x: torch.Tensor) -> torch.Tensor:
    """Its second derivative jumps at 0.7."""
    return (torch.exp(-x) + torch.where(x < 0.7, 0.0, (x - 0.7) ** 2 * torch.cos(x))).unsqueeze(1)


def test_a_kink_that_is_told_costs_nothing():
    table, error = tabulate(kinked, 1e-10, kinks=(0.7,))
    x = torch.linspace(0.06, 1.0, 777, dtype=torch.float64)
    assert error < 1e-10
    assert (evaluate(table.knots, table.position(x)) - kinked(x)).abs().max() < 2e-10
    without_kink, _ = tabulate(lambda x: torch.exp(-x).unsqueeze(1), 1e-10)
    assert table.knots.shape[0] <= 2 * without_kink.knots.shape[0]
    with pytest.raises(ModelError):
        tabulate(kinked, 1e-10)


def test_slopes_beside_a_kink_are_those_of_their_side():
    table, _ = tabulate(kinked, 1e-10, kinks=(0.7,))
    x = torch.tensor([0.7 - 1e-6, 0.7, 0.7 + 1e-6], dtype=torch.float64, requires_grad=True)
    slopes = [
        torch.autograd.grad(values.sum(), x)[0]
        for values in (evaluate(table.knots, table.position(x)), kinked(x))
    ]
    torch.testing.assert_close(*slopes, atol=1e-8, rtol=0)


def test_what_no_table_can_follow_is_said():
    with pytest.raises(ModelError, match="2048 intervals"):
        tabulate(lambda x: torch.sin(1e5 * x).unsqueeze(1), 1e-8)


def test_values_beyond_the_last_knot_stay():
    table, _ = tabulate(smooth, 1e-8)
    beyond = evaluate(table.knots, table.position(torch.tensor([1.0, 1.2], dtype=torch.float64)))
    torch.testing.assert_close(beyond, torch.zeros_like(beyond), atol=1e-12, rtol=0)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-7), ("float32", 2e-5)])
def test_predictions_agree_with_the_networks(backend, dtype, tolerance):
    potential = make_potential(dtype, backend)
    graph = ethanol(potential)
    exact = potential(graph)
    assert potential.tabulate_radial() < 1e-8
    tabulated = potential(graph)
    assert not torch.equal(tabulated.forces, exact.forces)
    for got, want in ((tabulated.energy, exact.energy), (tabulated.forces, exact.forces)):
        torch.testing.assert_close(got, want, rtol=0, atol=tolerance * float(want.abs().max()))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_forces_are_the_gradient_of_the_tabulated_energy(backend):
    potential = make_potential(backend=backend)
    potential.tabulate_radial(1e-3)  # coarse, so that the network would show
    graph = ethanol(potential)
    forces = potential(graph).forces
    step = 1e-4
    for atom, axis in ((0, 0), (3, 2), (8, 1)):
        energies = []
        for sign in (1, -1):
            moved = graph.positions.clone()
            moved[atom, axis] += sign * step
            energies.append(potential(graph._replace(positions=moved)).energy.item())
        numerical = -(energies[0] - energies[1]) / (2 * step)
        assert forces[atom, axis].item() == pytest.approx(numerical, abs=1e-8)


def test_second_derivatives_go_through_the_table():
    fast, plain = (make_potential(backend=name) for name in ("cpu", "reference"))
    hessian_rows = []
    for potential in (fast, plain):
        potential.tabulate_radial(1e-4)
        graph = ethanol(potential)
        positions = graph.positions.clone().requires_grad_()
        energy = potential.atomic_energies(graph._replace(positions=positions)).sum()
        (gradient,) = torch.autograd.grad(energy, positions, create_graph=True)
        hessian_rows.append(torch.autograd.grad(gradient[0, 0], positions)[0])
    torch.testing.assert_close(*hessian_rows, atol=1e-9, rtol=1e-9)


def test_training_drops_the_tables():
    potential = make_potential()
    graph = ethanol(potential)
    exact = potential(graph).forces
    potential.tabulate_radial(1e-3)
    assert not torch.equal(potential(graph).forces, exact)
    assert torch.equal(potential.train().eval()(graph).forces, exact)


def test_other_weights_drop_the_tables():
    potential = make_potential()
    graph = ethanol(potential)
    potential.tabulate_radial()
    doubled = {
        name: 2 * value if ".radial." in name else value for name, value in potential.state_dict().items()
    }
    potential.load_state_dict(doubled)
    assert torch.equal(potential(graph).energy, potential.train().eval()(graph).energy)


def test_a_model_that_no_table_can_follow_keeps_all_its_networks():
    potential = make_potential()
    with torch.no_grad():
        potential.layers[-1].radial.weights[0].mul_(1e6)
    with pytest.raises(ModelError, match="2048 intervals"):
        potential.tabulate_radial(1e-12)
    assert all(layer.radial.table is None for layer in potential.layers)


def test_tables_are_not_saved(tmp_path):
    potential = make_potential()
    before = potential.state_dict().keys()
    potential.tabulate_radial()
    assert potential.state_dict().keys() == before


def test_the_calculator_takes_tables_in_float32_alone():
    carbon = bulk("C", "diamond", a=3.57)
    for dtype, tables in (("float32", True), ("float64", False)):
        calc = NequIPCalculator(make_potential(dtype))
        assert (calc.potential.layers[0].radial.table is not None) is tables
    tabulated = make_potential("float32")
    tabulated.tabulate_radial(1e-2)
    carbon.calc = NequIPCalculator(tabulated, radial_tables=False)
    assert carbon.calc.potential.layers[0].radial.table is None
    assert tabulated.layers[0].radial.table is not None
    exact = carbon.get_potential_energy()
    carbon.calc = NequIPCalculator(make_potential("float32"), radial_tables=True)
    assert carbon.get_potential_energy() == pytest.approx(exact, rel=1e-6)
