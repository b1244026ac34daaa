"""From the name of a device to the device, if it is there."""

from __future__ import annotations

import torch

from nequip.errors import ModelError


def find_device(name: str | torch.device) -> torch.device:
    """`torch.device(name)`.

    Raises:
        ModelError: for a name that torch does not know and for a GPU that is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"there is no device {str(name)!r}: give 'cpu', 'cuda' or 'cuda:N'.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        seen = ", ".join(f"cuda:{index}" for index in range(count)) or "no GPU"
        raise ModelError(f"device {str(device)!r} is not there: torch sees {seen}; 'cpu' always is.")
    return device
