from __future__ import annotations

import math

import pytest
import torch

from nequip.config.compose import compose
from nequip.config.schema import LossConfig
from nequip.data.graph import AtomicGraph, Labels, collate
from nequip.errors import ConfigError
from nequip.nn.derivatives import Prediction
from nequip.train.loss import Loss

NAN = math.nan


def labelled(
    energy: float, forces: list[list[float]], weight: float = 1.0, stress: float = NAN
) -> AtomicGraph:
    """A structure of types 0, 1, 0, 1, ... without edges."""
    number = len(forces)
    none = torch.zeros(0, dtype=torch.int64)
    labels = Labels(
        energy=torch.tensor([energy], dtype=torch.float64),
        forces=torch.tensor(forces, dtype=torch.float64),
        stress=torch.full((1, 3, 3), stress, dtype=torch.float64),
        weight=torch.tensor([weight], dtype=torch.float64),
        group=torch.tensor([0]),
        index=torch.tensor([0]),
    )
    return AtomicGraph(
        positions=torch.zeros(number, 3, dtype=torch.float64),
        types=torch.arange(number) % 2,
        center=none,
        neighbor=none,
        row_ptr=torch.zeros(number + 1, dtype=torch.int64),
        transpose=none,
        shift=torch.zeros(0, 3, dtype=torch.float64),
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        batch=torch.zeros(number, dtype=torch.int64),
        head=torch.zeros(1, dtype=torch.int64),
        labels=labels,
    )


def zeros(graph: AtomicGraph) -> Prediction:
    """A potential that says zero to everything, and can be differentiated."""

    def zero(like: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(like).requires_grad_()

    labels = graph.labels
    return Prediction(
        zero(labels.energy), zero(graph.positions[:, 0]), zero(labels.forces), zero(labels.stress), None
    )


def only(name: str, **options: object) -> Loss:
    """A loss of one term."""
    terms: dict[str, object] = {"energy": None, "forces": None, "stress": None, name: options}
    return Loss(LossConfig.model_validate(terms), ("H", "O"))


def value(loss: Loss, graph: AtomicGraph) -> float:
    return float(loss.combine(loss(zeros(graph), graph)).detach())


FORCES = [[3.0, 0.0, 4.0], [0.0, 0.0, 0.5]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kind": "mse"}, (9 + 16 + 0.25) / 6),
        ({"kind": "mae"}, 7.5 / 6),
        ({"kind": "norm"}, (5.0 + 0.5) / 2),
        ({"kind": "huber", "delta": 1.0}, (2.5 + 3.5 + 0.125) / 6),
        ({"kind": "mse", "type_weights": {"O": 2.0}}, (9 + 16 + 2 * 0.25) / 6),
        ({"kind": "mse", "weight": 7.0}, 7 * (9 + 16 + 0.25) / 6),
    ],
)
def test_a_term_is_the_mean_over_components(options, expected):
    assert value(only("forces", **options), labelled(0.0, FORCES)) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("per_atom", "expected"), [(True, 9.0), (False, 36.0)])
def test_energy_counts_per_atom_or_in_total(per_atom, expected):
    assert value(only("energy", per_atom=per_atom), labelled(6.0, FORCES)) == pytest.approx(expected)


@pytest.mark.parametrize(("norm", "scale"), [(99, 1.0), (100, 0.7), (250, 0.4), (300, 0.1), (900, 0.1)])
def test_stratified_huber_shrinks_delta_with_the_reference_force(norm, scale):
    loss = only("forces", kind="stratified_huber", delta=0.01)
    delta = 0.01 * scale
    expected = delta * (norm - 0.5 * delta) / 3
    assert value(loss, labelled(0.0, [[0.0, norm, 0.0]])) == pytest.approx(expected, rel=1e-12)


def test_missing_labels_are_left_out_of_sum_and_count():
    some = collate([labelled(1.0, FORCES), labelled(NAN, [[NAN] * 3, [2.0, NAN, 0.0]], stress=1.0)])
    terms = Loss(LossConfig.model_validate({"stress": {}}), ("H", "O"))(zeros(some), some)
    counts = {name: float(term.num_labels) for name, term in terms.items()}
    assert counts == {"energy": 1, "forces": 8, "stress": 9}
    assert float(terms["forces"].total.detach()) == pytest.approx(9 + 16 + 0.25 + 4)


def test_a_batch_without_labels_has_zero_loss_and_zero_gradient():
    graph = labelled(NAN, [[NAN] * 3])
    loss = Loss(LossConfig.model_validate({"stress": {}, "forces": {"kind": "stratified_huber"}}), ("H", "O"))
    prediction = zeros(graph)
    total = loss.combine(loss(prediction, graph))
    total.backward()
    assert float(total.detach()) == 0
    for predicted in (prediction.energy, prediction.forces, prediction.stress):
        assert torch.equal(predicted.grad, torch.zeros_like(predicted))


def test_a_prediction_of_nan_without_a_label_leaves_no_trace():
    # What a model says of the stress of a molecule.
    graph = labelled(1.0, FORCES)
    energy = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    stress = torch.where(torch.tensor(False), energy, NAN)[:, None, None].expand(1, 3, 3)
    prediction = zeros(graph)._replace(stress=stress, energy=energy)
    loss = Loss(LossConfig.model_validate({"stress": {}}), ("H", "O"))
    loss.combine(loss(prediction, graph)).backward()
    assert torch.isfinite(energy.grad).all()


@pytest.mark.parametrize("name", ["energy", "forces", "stress"])
def test_the_weight_of_a_frame_scales_its_part(name):
    light, heavy = labelled(1.0, FORCES, stress=0.3), labelled(1.0, FORCES, weight=5.0, stress=0.3)
    loss = only(name)
    assert value(loss, heavy) == pytest.approx(5 * value(loss, light))
    assert value(loss, collate([light, heavy])) == pytest.approx(3 * value(loss, light))


def test_sums_and_counts_of_batches_add_up_to_those_of_all():
    parts = [labelled(1.0, FORCES), labelled(NAN, [[1.0, NAN, 2.0]]), labelled(2.0, FORCES, weight=2.0)]
    loss = Loss(LossConfig(), ("H", "O"))
    whole = loss(zeros(collate(parts)), collate(parts))
    for name, term in whole.items():
        pieces = [loss(zeros(part), part)[name] for part in parts]
        total = sum(piece.total.detach() for piece in pieces)
        assert float(total) == pytest.approx(float(term.total.detach()), rel=1e-14)
        assert sum(piece.num_labels for piece in pieces) == term.num_labels


SCHEDULE = [
    {"epoch": 2, "weights": {"energy": 10.0}},
    {"epoch": 6, "weights": {"energy": 30.0, "forces": 3.0}, "interpolation": "linear"},
]


@pytest.mark.parametrize(
    ("epoch", "energy", "forces"),
    [(0, 1, 1), (1, 1, 1), (2, 10, 1), (3, 15, 1.5), (5, 25, 2.5), (6, 30, 3), (99, 30, 3)],
)
def test_weights_follow_the_schedule(epoch, energy, forces):
    loss = Loss(LossConfig.model_validate({"schedule": SCHEDULE}), ("H",))
    assert loss.weights(epoch) == pytest.approx({"energy": energy, "forces": forces})


def test_validation_takes_the_weights_of_the_stage_and_those_of_the_end_of_a_slide():
    loss = Loss(LossConfig.model_validate({"schedule": SCHEDULE}), ("H",))
    assert [loss.judging_epoch(epoch) for epoch in (0, 1, 2, 5, 6, 99)] == [0, 0, 6, 6, 6, 6]
    assert [epoch for epoch in range(10) if loss.is_judged_anew(epoch)] == [2]


def test_a_learning_rate_holds_until_a_stage_brings_another():
    stages = [{"epoch": 2, "lr": 0.1}, {"epoch": 4}, {"epoch": 6, "lr": 0.2}]
    schedule = [{"weights": {"energy": 2.0}, **stage} for stage in stages]
    loss = Loss(LossConfig.model_validate({"schedule": schedule}), ("H",))
    assert [loss.lr(epoch) for epoch in (1, 2, 5, 6, 9)] == [None, 0.1, 0.1, 0.2, 0.2]


@pytest.mark.parametrize(("kind", "forces"), [("mse", 11), ("norm", 3)])
def test_labels_are_counted_before_anything_is_predicted(kind, forces):
    graph = collate([labelled(1.0, FORCES), labelled(NAN, [[NAN, 1.0, 1.0], [1.0, 1.0, 1.0]], stress=2.0)])
    terms = {"energy": {}, "forces": {"kind": kind}, "stress": {}, "dipole": {}}
    loss = Loss(LossConfig.model_validate(terms), ("H", "O"))
    counted = [float(term.num_labels) for term in loss(zeros(graph), graph).values()]
    assert loss.num_labels(graph).tolist() == counted == [1, forces, 9, 0]


def universal(graph: AtomicGraph) -> float:
    """The loss of MACE-MP-0 (2401.00096) at a prediction of zero, component by component."""

    def huber(error: float, delta: float) -> float:
        return 0.5 * error**2 if abs(error) < delta else delta * (abs(error) - 0.5 * delta)

    def delta(force: torch.Tensor) -> float:
        norm = float(force.norm())
        return 0.01 * (1.0 if norm < 100 else 0.7 if norm < 200 else 0.4 if norm < 300 else 0.1)

    labels, atoms = graph.labels, torch.bincount(graph.batch)
    energy = [huber(float(e / n), 0.01) for e, n in zip(labels.energy, atoms, strict=True)]
    forces = [huber(float(f), delta(force)) for force in labels.forces for f in force]
    stress = [huber(float(s), 0.01) for s in labels.stress.flatten()]
    return sum(weight * sum(term) / len(term) for weight, term in ((1, energy), (10, forces), (100, stress)))


def test_the_shipped_universal_loss_is_the_published_one(tmp_path):
    (tmp_path / "run.yaml").write_text("defaults: [train: universal]\ndata: {file: a.xyz}\n")
    loss = Loss(compose(tmp_path / "run.yaml").train.loss, ("H", "O"))
    forces = [[3.0, 0.0, 0.002], [120.0, -90.0, 0.0], [0.0, 250.0, 0.0], [900.0, 1.0, 0.0]]
    graph = collate([labelled(2.0, forces, stress=0.3), labelled(-0.004, forces[:1], stress=0.001)])
    assert value(loss, graph) == pytest.approx(universal(graph), rel=1e-12)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"forces": {"type_weights": {"Ol": 2.0}}}, r"type_weights names 'Ol' \(did you mean 'O'\?\)"),
        ({"energy": {"kind": "stratified_huber"}}, "it is for train.loss.forces only"),
        ({"stress": {"type_weights": {"O": 2.0}}}, "it is for train.loss.forces only"),
        ({"schedule": [{"epoch": 3, "weights": {}}, {"epoch": 3, "weights": {}}]}, "ascending order"),
        ({"schedule": [{"epoch": 3, "weights": {"stress": 1}}]}, "train.loss.stress is switched off"),
    ],
)
def test_mistakes_get_one_sentence(config, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Loss(LossConfig.model_validate(config), ("H", "O"))
