"""What a run and an evaluation look like: figures as PNG, one HTML page, tables."""

from __future__ import annotations

from nequip.plotting.report import write_report

__all__ = ["write_report"]
