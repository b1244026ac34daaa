"""The report of a run or of an evaluation: figures, predictions, and one page that holds them all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nequip.model.card import ModelCard
from nequip.plotting import page
from nequip.plotting.history import learning_curves, read_history
from nequip.plotting.parity import error_plots, parity_plots
from nequip.plotting.style import Plot, significant
from nequip.plotting.tables import COLUMNS, error_table, error_text
from nequip.train.evaluation import Evaluation
from nequip.units import MEV

WORST = 10
HEADINGS = {
    "val": "Validation frames",
    "test": "Test frames",
    "train": "Training frames",
    "replay": "Replay frames held out",
}


def write_report(
    evaluations: Mapping[str, Evaluation],
    history_csv: str | Path | None,
    folder: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Write `report.html`, `figures/*.png` and the predictions of each evaluation into `folder`.

    Args:
        evaluations: by name ("val", "test", ...), at least one, all of one potential. The name goes
            into the names of files: `predictions_val.xyz`; an empty one leaves `predictions.xyz`.
        history_csv: the `metrics.csv` of the run, for learning curves; None for none.
        config: the configuration of the run, shown folded at the end.

    Returns:
        The path of the page.
    """
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    card = next(iter(evaluations.values())).card
    title = f"{card.architecture} for {', '.join(card.type_names)}"
    body = [page.heading(1, title), page.paragraph(_provenance(card))]
    for name, evaluation in evaluations.items():
        body += _evaluation(name, evaluation, folder)
    if history_csv is not None:
        plots = learning_curves(read_history(history_csv))
        _save(plots, "", folder)
        body += [page.heading(2, "Learning curves"), page.figures(plots)]
    body += _model(card)
    if config is not None:
        body.append(page.folded("Configuration of the run", _pretty(config)))
    path = folder / "report.html"
    path.write_text(page.page(title, body), encoding="utf-8")
    return path


def _evaluation(name: str, evaluation: Evaluation, folder: Path) -> list[str]:
    predictions = _with_suffix("predictions", name, ".xyz")
    evaluation.save_predictions(folder / predictions)
    parity, errors = parity_plots(evaluation), error_plots(evaluation)
    _save([*parity, *errors], name, folder)
    table = error_table(evaluation.errors)
    body = [
        page.heading(2, HEADINGS.get(name, name or "Errors")),
        page.paragraph(
            f"{evaluation.num_frames:,} frames, {len(evaluation.types):,} atoms of {evaluation.source.name}."
        ),
    ]
    if not evaluation.errors:
        return [
            *body,
            page.paragraph("The frames have no labels to compare with."),
            page.link(predictions, predictions),
        ]
    return [
        *body,
        page.numbers(_headline(evaluation.errors)),
        page.figures(parity),
        page.heading(3, "Table of errors"),
        page.table(table.headings, table.rows),
        page.heading(3, "Distribution of errors"),
        page.figures(errors),
        *_worst(evaluation, predictions),
    ]


def _headline(errors: Mapping[str, float]) -> list[tuple[str, str]]:
    return [
        (error_text(quantity, errors[f"{quantity}_mae"]), f"MAE {words}")
        for quantity, words in COLUMNS.items()
        if f"{quantity}_mae" in errors
    ]


def _worst(evaluation: Evaluation, predictions: str) -> list[str]:
    """The frames to look at first, by forces and by energy."""
    body = [page.heading(3, "Worst frames")]
    for by, words in (("forces", "forces"), ("energy", "energy per atom")):
        rows = [_worst_row(evaluation, int(frame)) for frame in evaluation.worst(by, WORST)]
        if rows:
            body += [
                page.paragraph(f"By {words}:"),
                page.table(tuple(rows[0]), [row.values() for row in rows]),
            ]
    return [*body, page.link(predictions, f"All frames with reference and predicted values: {predictions}")]


def _worst_row(evaluation: Evaluation, frame: int) -> dict[str, str]:
    """Cells by heading."""
    rows = slice(evaluation.row_ptr[frame], evaluation.row_ptr[frame + 1])
    difference = evaluation.predicted.forces[rows] - evaluation.reference.forces[rows]
    lengths = np.linalg.norm(difference, axis=1)
    largest = np.max(lengths, where=np.isfinite(lengths), initial=-np.inf)
    group = evaluation.group_names[evaluation.group[frame]]
    return {
        "formula": evaluation.formula(frame),
        **({"group": group} if len(evaluation.group_names) > 1 else {}),
        "frame in the data": str(evaluation.index[frame]),
        "frame in predictions": str(frame),
        "RMS error of forces, meV/Å": significant(float(evaluation.forces_error[frame]) * MEV),
        "largest force error, meV/Å": significant(float(largest) * MEV),
        "error of energy, meV/atom": significant(float(evaluation.energy_error[frame]) * MEV),
    }


def _provenance(card: ModelCard) -> str:
    words = f"Cutoff {card.r_max:g} Å, {card.dtype}."
    if card.training is None:
        return words
    training = card.training
    return (
        f"{words} Trained on {training.data}: {training.num_train:,} frames for {training.epochs:,} epochs, "
        f"{training.num_val:,} for validation; {training.weights} weights."
        + (f" Fine-tuned from {training.finetuned_from}." if training.finetuned_from else "")
    )


def _model(card: ModelCard) -> list[str]:
    """The card: settings as a table, everything folded."""
    rows = [
        (key, _short(value))
        for key, value in card.config.items()
        if value is not None and not isinstance(value, dict)
    ]
    return [
        page.heading(2, "Model"),
        page.table(("setting", "value"), rows),
        page.folded("The whole card", _pretty(card.model_dump(mode="json"))),
    ]


def _short(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _pretty(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _save(plots: list[Plot], name: str, folder: Path) -> None:
    for plot in plots:
        (folder / "figures" / _with_suffix(plot.name, name, ".png")).write_bytes(plot.png)


def _with_suffix(stem: str, name: str, suffix: str) -> str:
    return f"{stem}_{name}{suffix}" if name else f"{stem}{suffix}"
