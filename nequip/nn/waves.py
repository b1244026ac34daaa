"""Second derivatives along waves, of crystals that are given by their cells.

A cell is unrolled into its atoms and one ghost `a = (I, R)` for each image within the cutoff of one of
them. Displacements `u_I exp(2πi q·R)` change every quantity of image R by `exp(2πi q·R)` times the change in
the home cell, features of messages included. So it is enough that ghosts take the changes of their owners
times the phase (nequip.nn.exchange), in both directions of a product `Φ(q) u`: however many layers there
are, the graph holds one cutoff and no receptive field, and no column of Φ is ever larger than a cell.

Published idea: Fang, Geiger, Checkelsky, Smidt, arXiv:2403.11347, where the cell is unrolled over the whole
receptive field.
"""

from __future__ import annotations

import torch

from nequip.data.copies import owners_of_copies, repeat
from nequip.data.graph import AtomicGraph
from nequip.nn.derivatives import AtomicEnergies
from nequip.nn.exchange import exchange, owners
from nequip.typing import Complex, Float, Int, Tensor


class Waves:
    """First derivatives of copies of unrolled structures, to be differentiated again along waves.

    A wave takes two copies, its real and its imaginary part. All structures of `unrolled` have waves of
    their own in one product: phases belong to images.
    """

    def __init__(
        self,
        atomic_energies: AtomicEnergies,
        unrolled: AtomicGraph,
        owner: Int[Tensor, " image"],
        copies: int,
    ):
        """Differentiate once; `unrolled` and `owner` are those of nequip.data.copies.with_ghosts."""
        owned = unrolled.num_owned
        self.pairs, self.size = copies // 2, 3 * owned
        batch = repeat(unrolled, copies)
        offsets = (unrolled.positions[owned:] - unrolled.positions[owner]).repeat(copies, 1)
        with torch.enable_grad(), owners(owners_of_copies(owner, owned, copies)) as self._ghosts:
            self._positions = batch.positions[: batch.num_owned].detach().requires_grad_()
            everywhere = exchange(self._positions, batch.num_atoms)
            zeros = torch.zeros_like(everywhere[: batch.num_owned])
            everywhere = everywhere + torch.cat([zeros, offsets])
            self._gradient = gradient(atomic_energies, batch, everywhere, self._positions)

    def product(
        self,
        u: Complex[Tensor, "pair coordinate"],
        phase: Complex[Tensor, "pair image"],
        create_graph: bool = False,
    ) -> Complex[Tensor, "pair coordinate"]:
        """`Φ(q) u` in eV/Å² times the unit of u, one wave for each pair of copies.

        Args:
            phase: `exp(2πi q·R)` of each image.
            create_graph: keep the graph of the products, for training on them.
        """
        if not self._gradient.requires_grad:
            return torch.zeros_like(u)
        parts = torch.stack([u.real, u.imag], dim=1)
        with self._ghosts.waves(phase):
            (product,) = torch.autograd.grad(
                self._gradient,
                self._positions,
                parts.reshape(self._gradient.shape),
                retain_graph=True,
                create_graph=create_graph,
                materialize_grads=True,
            )
        real, imaginary = product.reshape(parts.shape).unbind(1)
        return torch.complex(real, imaginary)


def gradient(
    atomic_energies: AtomicEnergies, graph: AtomicGraph, positions: Float[Tensor, "atom 3"], of: Tensor
) -> Float[Tensor, "row 3"]:
    """∂E/∂x in eV/Å for the energy at `positions`, which follow from `of` = x; differentiable again.

    Whatever the mode of the potential: evaluation mode alone drops the graph of derivatives.
    """
    energy = atomic_energies(graph._replace(positions=positions)).sum()
    return torch.autograd.grad(energy, of, create_graph=True, materialize_grads=True)[0]
