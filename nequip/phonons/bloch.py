"""The Hessian of an infinite crystal along waves: exact, from one cell and the images its atoms see.

The cell is unrolled into its atoms and one ghost `a = (I, R)` for each image within the cutoff of one of
them. Displacements `u_I exp(i k·R)` change every quantity of image R by `exp(i k·R)` times the change in
the home cell, features of messages included. So it is enough that ghosts take the changes of their owners
times the phase (nequip.nn.exchange), in both directions of a product `Φ(k) u`: however many layers there
are, the graph holds one cutoff and no receptive field, and no column of Φ is ever larger than a cell.

A wave is a pair of copies of the cell, its real and its imaginary part; many pairs share a graph, and the
graph of the first derivatives serves every k. Published idea: Fang, Geiger, Checkelsky, Smidt,
arXiv:2403.11347, where the cell is unrolled over the whole receptive field.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from nequip.data.frame import FloatArray
from nequip.data.graph import AtomicGraph
from nequip.errors import ModelError
from nequip.export.structures import with_ghosts
from nequip.model.potential import Potential
from nequip.nn.exchange import exchange, owners
from nequip.phonons.copies import (
    MEMORY,
    Held,
    copies_within,
    gradient,
    owners_of_copies,
    repeat,
)
from nequip.typing import Complex, Float, Int, Tensor


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
        self._potential = potential
        unrolled, owner = with_ghosts(graph)
        self.offset = unrolled.positions[graph.num_atoms :] - graph.positions[owner]
        self.shift = torch.round(self.offset @ torch.linalg.pinv(graph.cell[0]))
        with Held() as held:
            self._differentiate(unrolled, owner, 1)
        # copies make pairs: one more where a single one is left
        wanted = 2 * self.size
        self.pairs = (copies_within(memory / 2, unrolled, held.bytes, wanted) + 1) // 2
        self._differentiate(unrolled, owner, 2 * self.pairs)

    def _differentiate(self, unrolled: AtomicGraph, owner: Int[Tensor, " ghost"], copies: int) -> None:
        owned = unrolled.num_owned
        batch = repeat(unrolled, copies)
        offsets = self.offset.repeat(copies, 1)
        with torch.enable_grad(), owners(owners_of_copies(owner, owned, copies)) as self._ghosts:
            self._positions = batch.positions[: batch.num_owned].detach().requires_grad_()
            everywhere = exchange(self._positions, batch.num_atoms)
            zeros = torch.zeros_like(everywhere[: batch.num_owned])
            everywhere = everywhere + torch.cat([zeros, offsets])
            self._gradient = gradient(self._potential, batch, everywhere, self._positions)

    def __call__(self, q: FloatArray) -> Complex[Tensor, "q coordinate coordinate"]:
        """Φ at each of the wave vectors [q, 3]."""
        device = self.offset.device
        angle = 2 * math.pi * torch.as_tensor(np.atleast_2d(q), device=device).double() @ self.shift.T
        phase = torch.polar(torch.ones_like(angle), angle)
        columns = torch.eye(self.size, dtype=torch.float64, device=device).repeat(len(phase), 1)
        phases = phase.repeat_interleave(self.size, 0)
        products = [
            self.product(u, p)
            for u, p in zip(columns.split(self.pairs), phases.split(self.pairs), strict=True)
        ]
        # each row is a column of Φ
        return torch.cat(products).view(-1, self.size, self.size).transpose(1, 2)

    def product(
        self,
        u: Float[Tensor, "wave coordinate"],
        phase: Complex[Tensor, "wave image"],
        create_graph: bool = False,
    ) -> Complex[Tensor, "wave coordinate"]:
        """`Φ(q) u` for at most `pairs` waves, each with a q of its own.

        Args:
            phase: `exp(2πi q·R)` with R = `shift` of each image.
            create_graph: keep the graph of the products, for training on them.
        """
        waves = len(u)
        v = torch.zeros(self.pairs, 2, self.size, dtype=torch.float64, device=u.device)
        v[:waves, 0] = u
        phases = torch.ones(self.pairs, phase.shape[1], dtype=phase.dtype, device=phase.device)
        phases[:waves] = phase
        if not self._gradient.requires_grad:
            return torch.zeros(waves, self.size, dtype=phase.dtype, device=u.device)
        with self._ghosts.waves(phases):
            (product,) = torch.autograd.grad(
                self._gradient,
                self._positions,
                v.view_as(self._gradient),
                retain_graph=True,
                create_graph=create_graph,
                materialize_grads=True,
            )
        real, imaginary = product.view_as(v)[:waves].unbind(1)
        return torch.complex(real, imaginary)
