from __future__ import annotations

import numpy as np
import pytest

from nequip.calculators.dynamics import NVERecord
from nequip.plotting.dynamics import energy_plot, temperature_plot, total_energy_plot


@pytest.mark.parametrize("steps", [1, 2, 500])
def test_any_record_can_be_drawn(steps):
    time = np.arange(steps) * 5.0
    record = NVERecord(time, -100 + np.sin(time), 1 - np.sin(time), 300 + time, num_atoms=9)
    plots = [energy_plot(record), total_energy_plot(record), temperature_plot(record)]
    assert [plot.name for plot in plots] == ["energies", "total_energy", "temperature"]
    assert all(plot.png.startswith(b"\x89PNG") for plot in plots)
