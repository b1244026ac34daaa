"""Whole runs of training on a tiny potential."""

from __future__ import annotations

from nequip.train.run import run_training


def test_a_run_trains(make_config):
    outcome = run_training(make_config())
    print(outcome)
    for p in sorted(outcome.output_dir.iterdir()):
        print(p.name, p.stat().st_size)
    print(outcome.history.read_text())
