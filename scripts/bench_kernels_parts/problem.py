"""What is computed: one convolution, its inputs, and the gradient that comes back to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nequip.kernels.edges import Edges
from nequip.kernels.tensor_product import TensorProductSpec
from nequip.o3 import Irrep, Irreps
from nequip.typing import Float, Tensor


@dataclass(frozen=True)
class Case:
    """Both parities up to l_max with as many channels each: a layer in the middle of a NequIP."""

    l_max: int
    channels: int

    @staticmethod
    def parse(text: str) -> Case:
        """`2x32`: l_max 2, 32 channels."""
        l_max, channels = text.split("x")
        return Case(int(l_max), int(channels))

    def __str__(self) -> str:
        return f"l_max {self.l_max}, {self.channels} channels"

    @property
    def spec(self) -> TensorProductSpec:
        degrees = range(self.l_max + 1)
        features = Irreps((self.channels, Irrep(degree, p)) for degree in degrees for p in (1, -1))
        harmonics = Irreps((1, Irrep(degree, (-1) ** degree)) for degree in degrees)
        return TensorProductSpec.full(features, harmonics, features)


@dataclass(frozen=True)
class Size:
    """How many atoms, and neighbors of each."""

    atoms: int
    degree: int

    @property
    def edges(self) -> int:
        return self.atoms * self.degree


@dataclass(frozen=True)
class Problem:
    """The arguments of a convolution, and the gradient of its output, in our layouts."""

    spec: TensorProductSpec
    edges: Edges
    x: Float[Tensor, "atom component_in"]
    sh: Float[Tensor, "edge component_sh"]
    weight: Float[Tensor, "edge path_channel"]
    grad: Float[Tensor, "atom component_out"]

    @property
    def num_atoms(self) -> int:
        return self.x.shape[0]

    @property
    def num_edges(self) -> int:
        return self.sh.shape[0]


def make_problem(case: Case, size: Size, dtype: torch.dtype, device: str) -> Problem:
    """Normal numbers on a random graph; the same ones whenever it is called."""
    spec = case.spec
    generator = torch.Generator().manual_seed(0)
    edges = random_graph(size, generator)

    def normal(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, dtype=dtype, generator=generator).to(device)

    return Problem(
        spec,
        Edges(*(index.to(device) for index in edges)),
        x=normal(size.atoms, spec.irreps_in.dim),
        sh=normal(size.edges, spec.irreps_sh.dim),
        weight=normal(size.edges, spec.num_weights),
        grad=normal(size.atoms, spec.irreps_out.dim),
    )


def random_graph(size: Size, generator: torch.Generator) -> Edges:
    """Every atom has `degree` neighbors drawn at random, and is a neighbor as often.

    A union of random permutations and their inverses: whenever i has the neighbor j, j has i, as in a
    neighbor list (OpenEquivariance asks for it). Sorted by center, then by neighbor.
    """
    everyone = torch.arange(size.atoms)
    columns: list[Tensor] = []
    for _ in range(size.degree // 2):
        partner = torch.randperm(size.atoms, generator=generator)
        columns += [partner, partner.argsort()]
    if size.degree % 2:
        first, second = torch.randperm(size.atoms, generator=generator)[: size.atoms // 2 * 2].view(2, -1)
        partner = everyone.clone()
        partner[first], partner[second] = second, first
        columns.append(partner)
    neighbor = torch.stack(columns, dim=1).sort(dim=1).values.flatten()
    row_ptr = torch.arange(0, size.edges + 1, size.degree)
    return Edges(everyone.repeat_interleave(size.degree), neighbor, row_ptr, neighbor.argsort(stable=True))
