"""The options that say how a saved potential computes: device, precision, kernels."""

from __future__ import annotations

import argparse
from typing import get_args

from nequip.kernels.backend import Backend


def add_computation_options(parser: argparse.ArgumentParser) -> None:
    """`--device`, `--dtype`, `--head`, `--backend`."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (cpu)")
    parser.add_argument("--dtype", choices=["float32", "float64"], help="instead of the model's own")
    parser.add_argument("--head", help="which readout to ask, of a file of another package with several")
    parser.add_argument(
        "--backend", choices=get_args(Backend), default="auto", help="of the kernels (auto: the fastest here)"
    )
