from __future__ import annotations

from pathlib import Path

import pytest

from nequip.plotting.history import learning_curves, read_history

CSV = """\
epoch,step,lr,train/loss,val/loss,val/forces_mae
1,10,0.01,2.0,,0.5
2,20,0.01,1.0,nan,
3,30,0.005,0.5,0.7,0.2
4,40,0.005,inf,0.6,0.1
"""


@pytest.fixture
def table(tmp_path) -> Path:
    path = tmp_path / "metrics.csv"
    path.write_text(CSV)
    return path


def test_empty_and_infinite_cells_are_left_out(table):
    history = read_history(table)
    assert [values.tolist() for values in history["train/loss"]] == [[1, 2, 3], [2.0, 1.0, 0.5]]
    assert [values.tolist() for values in history["val/loss"]] == [[3, 4], [0.7, 0.6]]
    assert [values.tolist() for values in history["val/forces_mae"]] == [[1, 3, 4], [0.5, 0.2, 0.1]]


def test_each_metric_recorded_gets_a_plot(table):
    plots = learning_curves(read_history(table))
    assert [plot.name for plot in plots] == ["learning_loss", "learning_forces_mae", "learning_rate"]
    assert all(plot.png.startswith(b"\x89PNG") for plot in plots)


@pytest.mark.parametrize(
    "rows", ["", "1,0.1,0.3\n", "1,0.0,-1\n2,0.0,-2\n"], ids=["none", "one", "not positive"]
)
def test_short_and_odd_histories_can_be_drawn(tmp_path, rows):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,lr,train/loss\n" + rows)
    assert len(learning_curves(read_history(path))) == {"": 0, "1,0.1,0.3\n": 1}.get(rows, 2)
