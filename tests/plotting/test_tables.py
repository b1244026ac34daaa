from __future__ import annotations

import pytest

from nequip.plotting.style import significant
from nequip.plotting.tables import error_table


def test_rows_are_all_then_types_then_groups(evaluation):
    assert [row[0] for row in error_table(evaluation.errors).rows] == [
        "all",
        "atoms of H",
        "group gas",
        "mean over types",
    ]


def test_columns_are_what_is_known_in_mev(evaluation):
    table = error_table(evaluation.errors)
    assert table.headings == (
        "",
        "MAE energy, meV/atom",
        "RMSE energy, meV/atom",
        "MAE forces, meV/Å",
        "RMSE forces, meV/Å",
        "MAE stress, meV/Å³",
    )
    assert table.rows[0] == ("all", "8.20", "10.1", "7.90", "12.3", "0.400")
    assert table.rows[1] == ("atoms of H", "", "", "8.10", "", "")


def test_text_is_aligned(evaluation):
    lines = error_table({"forces_mae": 0.1, "forces_mae/Cu": 12.0}).text().splitlines()
    assert lines == [
        "             MAE forces",
        "                  meV/Å",
        "all                 100",
        "atoms of Cu       12000",
    ]


def test_group_without_a_name():
    assert error_table({"forces_mae": 0.1, "forces_mae/group=": 0.1}).rows[1][0] == "group (none)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.345, "12.3"),
        (1234.5, "1234"),
        (-0.01234, "-0.0123"),
        (0.0, "0"),
        (9.999, "10.00"),
        (float("nan"), "–"),
        (1.234e-9, "1.23e-09"),
        (1.234e9, "1.23e+09"),
    ],
)
def test_numbers_keep_three_digits(value, text):
    assert significant(value) == text
