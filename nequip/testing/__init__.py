"""What every potential must satisfy, as a suite that an architecture subclasses.

```python
from nequip.model.registry import build_potential
from nequip.testing import PotentialConformance

class TestMyModel(PotentialConformance):
    def make_potential(self):
        return build_potential(MyConfig(type_names=("H", "O"), r_max=4.0, dtype="float64"))
```

pytest collects one test for each property; Hypothesis draws the structures, the same ones every time.
A potential that gives energies only subclasses EnergyConformance, which has no tests of forces.
Tolerances and the number of structures are attributes of the class.
"""

from __future__ import annotations

try:
    import pytest

    # Before the import: a failing `assert` then shows the values on both sides.
    pytest.register_assert_rewrite("nequip.testing.energies", "nequip.testing.conformance")

    from nequip.testing.conformance import PotentialConformance
    from nequip.testing.energies import EnergyConformance
    from nequip.testing.graphs import KINDS, frames, orthogonal_matrices
    from nequip.testing.predictions import predict, to_graph
except ModuleNotFoundError as error:
    if error.name not in ("pytest", "hypothesis"):
        raise
    raise ImportError("nequip.testing needs pytest and hypothesis: pip install 'e3forge[test]'.") from error

__all__ = [
    "KINDS",
    "EnergyConformance",
    "PotentialConformance",
    "frames",
    "orthogonal_matrices",
    "predict",
    "to_graph",
]
