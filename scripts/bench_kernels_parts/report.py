"""The tables on the terminal and the JSON file, both of the same rows."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from bench_kernels_parts.counts import Works
from bench_kernels_parts.machine import Machine

LEGEND = """\
us/edge   median time of a call through autograd / edges: forward records the graph; backward is
          autograd.grad by x, sh and weight on a graph that stays
x e3nn    time per edge of e3nn / time per edge of this program
FMA       useful operations / time / peak of a matrix product (bench_kernels_parts/counts.py)
memory    bytes that must move / time / bandwidth of a triad, every array once; in brackets: with a row of x,
          and of its gradient, for every edge. Caches can lift both above 100 %"""


def row(
    seconds: dict[str, list[float]],
    works: Works,
    machine: Machine,
    edges: int,
    rival: dict[str, float] | None,
) -> dict[str, float]:
    """The figures of one program on one case; `rival` is the row of e3nn, none for e3nn itself."""
    figures: dict[str, float] = {"edges": edges}
    for step, work in works._asdict().items():
        time = median(seconds[step])
        per_edge = 1e6 * time / edges
        figures |= {
            f"{step}_us_per_edge": per_edge,
            f"{step}_times_faster": rival[f"{step}_us_per_edge"] / per_edge if rival else 1.0,
            f"{step}_fma_fraction": work.operations / time / machine.operations_per_second,
            f"{step}_memory_fraction": work.bytes_once / time / machine.bytes_per_second,
            f"{step}_memory_fraction_gathered": work.bytes_gathered / time / machine.bytes_per_second,
        }
    return figures


def print_case(rows: dict[str, dict[str, float]]) -> None:
    """One line for each program: forward on the left, backward on the right."""
    head = f"{'us/edge':>9}{'x e3nn':>8}{'FMA':>7}{'memory':>13}"
    print(f"    {'':18}{'forward':>37}{'backward':>37}\n    {'':18}{head}{head}")
    for name, figures in rows.items():
        cells = "".join(_cells(figures, step) for step in ("forward", "backward"))
        print(f"    {name:18}{cells}", flush=True)


def _cells(figures: dict[str, float], step: str) -> str:
    memory = f"{figures[f'{step}_memory_fraction']:.0%} ({figures[f'{step}_memory_fraction_gathered']:.0%})"
    return (
        f"{figures[f'{step}_us_per_edge']:9.3f}{figures[f'{step}_times_faster']:8.1f}"
        f"{figures[f'{step}_fma_fraction']:7.1%}{memory:>13}"
    )


def write(file: Path, sections: dict[str, object]) -> None:
    """Every section that was measured."""
    file.write_text(json.dumps(sections, indent=2) + "\n")
    print(f"written to {file}")
