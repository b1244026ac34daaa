"""An exponential moving average of the weights, kept as a second potential.

Validation runs on the second potential and training on the first: nothing is ever swapped, so no
failure can leave the wrong weights in the wrong place.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from nequip.model.potential import Potential


class WeightAverage(nn.Module):
    """`average <- d · average + (1 - d) · weights` after every step, `d = min(decay, (1 + t) / (10 + t))`.

    The warm-up in the step number t lets the random first weights fade quickly. Buffers are no
    weights: they follow the trained potential.
    """

    def __init__(self, potential: Potential, decay: float):
        super().__init__()
        self.potential = copy.deepcopy(potential).requires_grad_(False)
        self.decay = decay
        self.num_updates = 0

    @torch.no_grad()
    def update(self, potential: Potential) -> None:
        """Take in the weights of `potential` after a step."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        for average, weight in zip(self.potential.parameters(), potential.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for mine, theirs in zip(self.potential.buffers(), potential.buffers(), strict=True):
            mine.copy_(theirs)

    def get_extra_state(self) -> int:
        return self.num_updates

    def set_extra_state(self, state: int) -> None:
        self.num_updates = state
