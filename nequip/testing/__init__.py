"""What every potential must satisfy, as a suite that an architecture subclasses.

```python
from nequip.testing import PotentialConformance

class TestMyModel(PotentialConformance):
    def make_potential(self):
        return build_potential(MyConfig(type_names=("H", "O"), ..., dtype="float64"))
```

pytest collects one test for each property; Hypothesis draws the structures, the same ones every time.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("pytest") is None or find_spec("hypothesis") is None:
    raise ImportError("nequip.testing needs pytest and hypothesis: pip install 'e3forge[test]'.")

from nequip.testing.conformance import PotentialConformance
from nequip.testing.graphs import KINDS, frames, orthogonal_matrices, to_graph

__all__ = ["KINDS", "PotentialConformance", "frames", "orthogonal_matrices", "to_graph"]
