"""Which irreps the tensors of each layer have: those that can arise, and of them those that are of use."""

from __future__ import annotations

from nequip.o3 import Irrep, Irreps

SCALAR = Irrep(0, 1)


def harmonics(l_max: int, channels: int = 1) -> Irreps:
    """`channels` of every spherical harmonic up to l_max."""
    return Irreps((channels, Irrep(degree, (-1) ** degree)) for degree in range(l_max + 1))


def layer_irreps(l_max: int, parity: bool, num_layers: int, channels: int) -> list[Irreps]:
    """Irreps of an edge's tensors before the first layer and after each layer.

    After a layer there are all irreps up to l_max that the product with an environment of harmonics
    gives, without `parity` those alone that harmonics have; after the last there are only even scalars.
    What no later layer can turn into something that is kept is left out.
    """
    allowed = [
        Irrep(degree, p) for degree in range(l_max + 1) for p in ((1, -1) if parity else ((-1) ** degree,))
    ]
    kept = [[irrep for _, irrep in harmonics(l_max)]]
    for layer in range(num_layers):
        wanted = [SCALAR] if layer == num_layers - 1 else allowed
        reachable = {out for irrep in kept[-1] for out in _products(irrep, l_max)}
        kept.append([irrep for irrep in wanted if irrep in reachable])
    for layer in reversed(range(num_layers)):
        after = set(kept[layer + 1])
        kept[layer] = [irrep for irrep in kept[layer] if after.intersection(_products(irrep, l_max))]
    return [Irreps((channels, irrep) for irrep in irreps) for irreps in kept]


def _products(irrep: Irrep, l_max: int) -> list[Irrep]:
    """What `irrep` and the harmonics give."""
    return [out for _, harmonic in harmonics(l_max) for out in irrep.product(harmonic)]
