from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from toy_potential import ToyPotential, toy_potential

from nequip.calculators import NequIPCalculator
from nequip.data.dataset import GraphDataset
from nequip.data.graph import collate
from nequip.data.neighbors import TypeMapper
from nequip.data.sources import open_source
from nequip.errors import DataError, ModelError
from nequip.train.evaluation import evaluate
from nequip.train.metrics import ErrorMetrics

TYPES = ("H", "C", "O", "Cu")


def labelled(atoms: Atoms, seed: int, group: str, **drop: bool) -> Atoms:
    """A structure with the toy's values plus noise of 10 meV, without those in `drop`."""
    rng = np.random.default_rng(seed)
    atoms.rattle(0.05, rng=rng)
    calc = NequIPCalculator(toy_potential(TYPES))
    calc.calculate(atoms)
    keep = ("energy", "forces", "stress") if atoms.cell.rank == 3 else ("energy", "forces")
    results = {
        name: calc.results[name] + rng.normal(0, 0.01, np.shape(calc.results[name]))
        for name in keep
        if name not in drop
    }
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info["group"] = group
    return atoms


@pytest.fixture
def file(tmp_path) -> Path:
    """Molecules and crystals; some lack labels, one lacks the force of one atom."""
    frames = [
        labelled(molecule("CH3CH2OH"), 0, "gas"),
        labelled(bulk("Cu", a=3.4, cubic=True), 1, "solid"),
        labelled(molecule("CO2"), 2, "gas", forces=True),
        labelled(bulk("Cu", a=3.5), 3, "solid", stress=True),
        labelled(molecule("H2O"), 4, "gas", energy=True),
    ]
    frames[4].calc.results["forces"][1] = np.nan
    write(tmp_path / "frames.xyz", frames)
    return tmp_path / "frames.xyz"


def dataset(file: Path, indices=range(5), types=TYPES) -> GraphDataset:
    potential = toy_potential(types)
    return GraphDataset(
        open_source(file),
        np.array(indices, dtype=np.int64),
        TypeMapper(types),
        potential.cutoffs,
        groups=("gas", "solid"),
    )


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_predictions_are_those_of_the_calculator(file, batch_size):
    evaluation = evaluate(toy_potential(TYPES), dataset(file), batch_size=batch_size)
    calc = NequIPCalculator(toy_potential(TYPES))
    for frame, result in enumerate(calc.evaluate(read(file, ":"))):
        rows = slice(*evaluation.row_ptr[frame : frame + 2])
        assert evaluation.predicted.energy[frame] == pytest.approx(result["energy"], abs=1e-9)
        np.testing.assert_allclose(evaluation.predicted.forces[rows], result["forces"], atol=1e-9)


def test_labels_are_those_of_the_file(file):
    evaluation = evaluate(toy_potential(TYPES), dataset(file))
    assert evaluation.num_atoms.tolist() == [9, 4, 3, 1, 3]
    assert np.isnan(evaluation.reference.energy).tolist() == [False, False, False, False, True]
    assert np.isfinite(evaluation.reference.stress).all((1, 2)).tolist() == [False, True, False, False, False]
    labelled_atoms = np.isfinite(evaluation.reference.forces).all(1)
    assert labelled_atoms.sum() == 9 + 4 + 0 + 1 + 2
    assert [evaluation.group_names[g] for g in evaluation.group] == ["gas", "solid", "gas", "solid", "gas"]


def test_error_table_is_that_of_the_metrics(file):
    evaluation = evaluate(toy_potential(TYPES), dataset(file), batch_size=2)
    graph = collate([dataset(file)[i] for i in range(5)])
    metrics = ErrorMetrics(TYPES, ("gas", "solid"))
    metrics.update(toy_potential(TYPES).eval()(graph), graph)
    assert evaluation.errors == pytest.approx(metrics.compute())
    assert evaluation.errors["forces_mae/group=gas"] == pytest.approx(0.01, rel=0.5)


def test_frame_errors_agree_with_the_table(file):
    evaluation = evaluate(toy_potential(TYPES), dataset(file))
    per_atom = np.abs(evaluation.energy_error)
    assert np.nanmean(per_atom) == pytest.approx(evaluation.errors["energy_per_atom_mae"])
    counts = np.array([9, 4, 0, 1, 2])
    square = np.nansum(evaluation.forces_error**2 * counts) / counts.sum()
    assert np.sqrt(square) == pytest.approx(evaluation.errors["forces_rmse"])


def test_worst_frames_come_first_and_have_labels(file):
    evaluation = evaluate(toy_potential(TYPES), dataset(file))
    by_forces, by_energy = evaluation.worst("forces"), evaluation.worst("energy")
    assert sorted(by_forces) == [0, 1, 3, 4]
    assert sorted(by_energy) == [0, 1, 2, 3]
    assert (np.diff(evaluation.forces_error[by_forces]) <= 0).all()
    assert (np.diff(np.abs(evaluation.energy_error)[by_energy]) <= 0).all()
    assert evaluation.worst("forces", count=1).tolist() == by_forces[:1].tolist()


def test_a_prediction_of_nan_is_worse_than_any_other(file):
    evaluation = evaluate(toy_potential(TYPES), dataset(file))
    evaluation.predicted.energy[1] = np.nan
    evaluation.predicted.forces[evaluation.row_ptr[3] : evaluation.row_ptr[4]] = np.nan
    assert evaluation.worst("energy")[0] == 1
    assert evaluation.worst("forces")[0] == 3


def test_formula_is_written_carbon_first(file):
    evaluation = evaluate(toy_potential(TYPES), dataset(file))
    assert [evaluation.formula(frame) for frame in range(5)] == ["C2H6O", "Cu4", "CO2", "Cu", "H2O"]


def test_index_points_into_the_source(file):
    evaluation = evaluate(toy_potential(TYPES), dataset(file, indices=[4, 1]))
    assert evaluation.index.tolist() == [4, 1]
    assert evaluation.atoms(0).get_chemical_formula() == "H2O"


def test_saved_predictions_hold_both_sides(file, tmp_path):
    evaluation = evaluate(toy_potential(TYPES), dataset(file))
    evaluation.save_predictions(tmp_path / "predictions.xyz")
    frames = read(tmp_path / "predictions.xyz", ":")
    assert [atoms.info["source_index"] for atoms in frames] == [0, 1, 2, 3, 4]
    assert "REF_forces" not in frames[2].arrays
    assert "REF_energy" not in frames[4].info
    np.testing.assert_allclose(frames[1].info["pred_stress"], evaluation.predicted.stress[1])
    np.testing.assert_allclose(frames[1].info["REF_stress"], evaluation.reference.stress[1])
    np.testing.assert_allclose(
        np.concatenate([atoms.arrays["pred_forces"] for atoms in frames]),
        evaluation.predicted.forces,
        atol=1e-8,
    )


def test_saved_predictions_can_be_evaluated_again(file, tmp_path):
    first = evaluate(toy_potential(TYPES), dataset(file))
    first.save_predictions(tmp_path / "predictions.xyz")
    second = evaluate(toy_potential(TYPES), dataset(tmp_path / "predictions.xyz"))
    assert second.errors == pytest.approx(first.errors, abs=1e-7)


def test_energy_only_potential_leaves_forces_out(file):
    evaluation = evaluate(toy_potential(TYPES, energy_only=True), dataset(file))
    assert np.isnan(evaluation.predicted.forces).all()
    assert "energy_mae" in evaluation.errors
    assert "forces_mae" not in evaluation.errors
    assert len(evaluation.worst("forces")) == 0


def test_frames_without_any_label_are_predicted(tmp_path):
    write(tmp_path / "bare.xyz", [molecule("H2O"), molecule("CH4")])
    evaluation = evaluate(toy_potential(TYPES), dataset(tmp_path / "bare.xyz", range(2)))
    assert np.isfinite(evaluation.predicted.forces).all()
    assert evaluation.errors == {}
    assert len(evaluation.worst("energy")) == 0


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_is_restored(file, training):
    potential = toy_potential(TYPES).train(training)
    evaluate(potential, dataset(file))
    assert potential.training is training


def test_no_frames_is_told_in_a_sentence(file):
    with pytest.raises(DataError, match="there is no frame to evaluate"):
        evaluate(toy_potential(TYPES), dataset(file, indices=[]))


def test_batch_that_does_not_fit_is_named(file):
    class Hungry(ToyPotential):
        def atomic_energies(self, graph):
            raise torch.OutOfMemoryError

    potential = Hungry(toy_potential(TYPES).card)
    with pytest.raises(
        ModelError, match=r"out of memory on cpu with frames 0 to 2 \(16 atoms, .* in 3 frames\)"
    ):
        evaluate(potential, dataset(file), batch_size=3)
