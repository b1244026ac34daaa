"""Write a saved potential and its numbers for tests/model/frozen: one for each format version, kept for ever.

python scripts/freeze_example.py v1
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "model"))

from test_checkpoint import small, water


def main() -> None:
    """Freeze a small float64 NequIP with per-edge-type cutoffs and ZBL."""
    folder = Path(__file__).parents[1] / "tests" / "model" / "frozen"
    cutoffs = {"H": 2.0, "O": {"H": 2.5}}
    potential = small(dtype="float64", per_edge_type_cutoff=cutoffs, pair_potential="zbl", l_max=2)
    target = folder / f"{sys.argv[1]}.nequip"
    potential.save(target)
    prediction = potential(water(potential))
    numbers = {"energy": prediction.energy.tolist(), "forces": prediction.forces.flatten().tolist()}
    target.with_suffix(".json").write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
