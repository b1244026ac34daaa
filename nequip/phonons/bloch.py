"""The Hessian of an infinite crystal along waves: exact, from one cell and the images its atoms see.

Many waves share a graph (nequip.nn.waves), and the graph of the first derivatives serves every q.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from nequip.data.copies import image_shifts, with_ghosts
from nequip.data.frame import FloatArray
from nequip.data.graph import AtomicGraph
from nequip.errors import ModelError
from nequip.model.potential import Potential
from nequip.nn.waves import Waves
from nequip.phonons.copies import MEMORY, Held, copies_within
from nequip.typing import Complex, Tensor


class BlochHessian:
    """`Φ_IJ(q) = Σ_R ∂²E/∂x_0I ∂x_RJ exp(2πi q·R)` in eV/Å², E the energy of the crystal, R in whole numbers.

    q is in units of the reciprocal lattice vectors. The object holds the graph of derivatives: keep it for
    all q of one structure.
    """

    def __init__(self, potential: Potential, graph: AtomicGraph, memory: float = MEMORY):
        """Differentiate once.

        Args:
            memory: GB that the derivatives may take.

        Raises:
            ModelError: for several structures in one graph, or memory that does not hold one cell.
        """
        if graph.num_graphs != 1:
            raise ModelError(f"the graph has {graph.num_graphs} structures: give one crystal.")
        self.size = 3 * graph.num_atoms
        unrolled, owner = with_ghosts(graph)
        self.shift = image_shifts(graph, unrolled, owner)  # R of each image
        with Held() as held:
            Waves(potential.atomic_energies, unrolled, owner, 1)
        # copies make pairs: one more where a single one is left
        wanted = 2 * self.size
        self.pairs = (copies_within(memory / 2, unrolled, held.bytes, wanted) + 1) // 2
        self._waves = Waves(potential.atomic_energies, unrolled, owner, 2 * self.pairs)

    def __call__(self, q: FloatArray) -> Complex[Tensor, "q coordinate coordinate"]:
        """Φ at each of the wave vectors [q, 3]."""
        q = np.atleast_2d(q)
        columns = np.tile(np.eye(self.size), (len(q), 1))
        # each row is a column of Φ
        products = self.products(columns, np.repeat(q, self.size, axis=0))
        return products.view(-1, self.size, self.size).transpose(1, 2)

    def products(self, u: FloatArray, q: FloatArray) -> Complex[Tensor, "wave coordinate"]:
        """`Φ(q) u` for any number of waves `u` [wave, coordinate], complex too, each with its q [wave, 3]."""
        device = self.shift.device
        angle = 2 * math.pi * torch.as_tensor(q, device=device).double() @ self.shift.T
        phase = torch.polar(torch.ones_like(angle), angle)
        patterns = torch.as_tensor(u, device=device).to(phase.dtype)
        rest = -len(patterns) % self.pairs
        patterns = torch.cat([patterns, patterns.new_zeros(rest, self.size)])
        phase = torch.cat([phase, phase.new_ones(rest, phase.shape[1])])
        found = [
            self._waves.product(*some)
            for some in zip(patterns.split(self.pairs), phase.split(self.pairs), strict=True)
        ]
        return torch.cat(found)[: len(u)]
