"""A pair potential that is right in all respects, and variants each wrong in one, for the suite to catch."""

from __future__ import annotations

import torch

from nequip.data.graph import AtomicGraph
from nequip.model.card import ModelCard
from nequip.model.cutoffs import resolve_cutoffs
from nequip.model.potential import DTYPES, Potential
from nequip.model.registry import Architecture, ModelConfig
from nequip.nn.derivatives import Prediction
from nequip.nn.geometry import EdgeGeometry, NormalizedLength, edge_geometry
from nequip.nn.radial import polynomial_cutoff


class ToyConfig(ModelConfig):
    """`variant` names a class of this file."""

    name: str = "toy"
    variant: str = "LennardJones"


class LennardJones(Potential):
    """`E_i = shift + ½ Σ_j 4 ε (s¹² - s⁶) u(x)`, s = σ / r, with a smooth cutoff u; ε and σ are trained."""

    def __init__(self, config: ToyConfig, card: ModelCard):
        super().__init__(card)
        self.dtype = DTYPES[card.dtype]
        number = len(card.type_names)
        self.shift = torch.nn.Parameter(torch.arange(1, number + 1, dtype=self.dtype))
        self.epsilon = torch.nn.Parameter(0.5 + 0.1 * torch.rand(number, dtype=self.dtype))
        self.sigma = torch.nn.Parameter(1.2 + 0.2 * torch.rand(number, dtype=self.dtype))
        self.normalized_length = NormalizedLength(self.cutoffs)

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        pairs = self.pair_energies(self.geometry(graph), graph)
        return self.shift[graph.types].double().index_add(0, graph.center, pairs.double())

    def geometry(self, graph: AtomicGraph) -> EdgeGeometry:
        return edge_geometry(graph)

    def pair_energies(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        i, j = graph.types[graph.center], graph.types[graph.neighbor]
        s = (self.sigma[i] + self.sigma[j]) / (2 * geometry.length.to(self.dtype))
        envelope = self.envelope(geometry, graph).to(self.dtype)
        return (self.epsilon[i] + self.epsilon[j]) * (s**12 - s**6) * envelope

    def envelope(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        return polynomial_cutoff(self.normalized_length(geometry.length, graph), 6)


# Wrong symmetry


class Anisotropic(LennardJones):
    """Bonds along z are stronger."""

    def envelope(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        return super().envelope(geometry, graph) * (1 + 0.1 * geometry.unit[:, 2] ** 2)


class Chiral(LennardJones):
    """Adds a triple product a · (b × c) of three vectors of the environment: a pseudoscalar."""

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        geometry = self.geometry(graph)
        weighted = self.envelope(geometry, graph).unsqueeze(1) * geometry.unit
        zero = graph.positions.new_zeros(graph.num_atoms, 3)
        a, b, c = (
            zero.index_add(0, graph.center, weighted * (geometry.length.unsqueeze(1) ** power))
            for power in (0, 1, 2)
        )
        triple = (a * torch.linalg.cross(b, c)).sum(1)
        return super().atomic_energies(graph) + triple


class NumbersItsAtoms(LennardJones):
    """Every other atom of a structure is bound more strongly."""

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        first = torch.searchsorted(graph.batch, graph.batch)
        odd = (torch.arange(graph.num_atoms) - first) % 2
        return super().atomic_energies(graph) * (1 + 0.1 * odd)


class FirstNeighborFirst(LennardJones):
    """The edge that comes first counts double."""

    def envelope(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        first = torch.arange(graph.num_edges) == graph.row_ptr[graph.center]
        return super().envelope(geometry, graph) * (1 + first)


class Anchored(LennardJones):
    """Energies depend on where the atoms are, not only on where they are from each other."""

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        return super().atomic_energies(graph) + 1e-3 * graph.positions.square().sum(1)


class ForgetsShifts(LennardJones):
    """Takes every neighbor to be in the same cell."""

    def geometry(self, graph: AtomicGraph) -> EdgeGeometry:
        vector = graph.positions[graph.neighbor] - graph.positions[graph.center]
        length = (vector.square().sum(1) + 1.0).sqrt()
        return EdgeGeometry(vector / length.unsqueeze(1), length)


# Wrong extensivity


class NormalizesOverTheBatch(LennardJones):
    """Subtracts a mean over all atoms of the graph, as batch normalisation does."""

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        energies = super().atomic_energies(graph)
        return energies - 0.1 * energies.mean()


class Intensive(LennardJones):
    """An energy per atom where a total is wanted."""

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        number = torch.bincount(graph.batch, minlength=graph.num_graphs)
        return super().atomic_energies(graph) / number[graph.batch]


class SkipsOwnImages(LennardJones):
    """An atom does not feel its own periodic images."""

    def envelope(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        return super().envelope(geometry, graph) * (graph.center != graph.neighbor)


class DividesByNeighbors(LennardJones):
    """A mean over neighbors, of which there may be none."""

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        pairs = self.pair_energies(self.geometry(graph), graph).double()
        number = graph.row_ptr.diff()
        mean = pairs.new_zeros(graph.num_atoms).index_add(0, graph.center, pairs) / number
        return self.shift[graph.types].double() + mean


# Wrong derivatives


class TracksTooLittle(LennardJones):
    """The cutoff function escapes differentiation."""

    def envelope(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        return super().envelope(geometry, graph).detach()


class OppositeStress(LennardJones):
    """The sign of pressure."""

    def forward(self, graph: AtomicGraph) -> Prediction:
        prediction = super().forward(graph)
        return prediction._replace(stress=-prediction.stress, virial=-prediction.virial)


class ForgetsTheVolume(LennardJones):
    """A stress in units of energy."""

    def forward(self, graph: AtomicGraph) -> Prediction:
        prediction = super().forward(graph)
        return prediction._replace(
            stress=torch.where(prediction.stress.isnan(), torch.nan, -prediction.virial)
        )


class HardCutoff(LennardJones):
    """The energy jumps."""

    def envelope(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        return torch.ones_like(geometry.length)


class KinkedCutoff(LennardJones):
    """The energy does not jump, the force does."""

    def envelope(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        return 1 - self.normalized_length(geometry.length, graph)


class OneCutoffForAll(LennardJones):
    """Smooth at r_max, but neighbors are found within the cutoffs of their types."""

    def envelope(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        return polynomial_cutoff(geometry.length / self.card.r_max, 6)


class TakesGradientsForTraining(LennardJones):
    """Where the caller wants gradients by positions, it keeps its own to itself."""

    def forward(self, graph: AtomicGraph) -> Prediction:
        prediction = super().forward(graph)
        return prediction._replace(forces=prediction.forces * (0.5 if graph.positions.requires_grad else 1))


class WritesIntoItsInput(LennardJones):
    """Centers the structure in place."""

    def forward(self, graph: AtomicGraph) -> Prediction:
        if graph.num_atoms and not graph.positions.requires_grad:
            graph.positions.sub_(graph.positions.mean(0))
        return super().forward(graph)


class KeepsHistory(LennardJones):
    """Evaluation holds on to the graph of autograd."""

    def forward(self, graph: AtomicGraph) -> Prediction:
        return super().forward(graph)._replace(atomic_energies=self.atomic_energies(graph))


class Silent(LennardJones):
    """Feels nothing."""

    def pair_energies(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        return 0.0 * super().pair_energies(geometry, graph)


# Wrong on disk, from seeds, in other precisions


class LosesAParameter(LennardJones):
    """`sigma` is not written, and not missed when read."""

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        del state["sigma"]
        return state

    def load_state_dict(self, state_dict, strict=True, assign=False):
        return super().load_state_dict(state_dict, strict=False, assign=assign)


class Noisy(LennardJones):
    """Never says the same twice."""

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        return super().atomic_energies(graph) + 1e-13 * torch.rand(graph.num_atoms, dtype=torch.float64)


class Unseeded(LennardJones):
    """Draws its weights from wherever the global random numbers are; see `build`."""


class RoughInFloat32(LennardJones):
    """Computes in half precision when single is asked for."""

    def pair_energies(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        energies = super().pair_energies(geometry, graph)
        return energies if self.dtype == torch.float64 else energies.bfloat16()


# Wrong in training


class HalfDetachedEnergies(LennardJones):
    """Energies of which a loss reaches half."""

    def pair_energies(self, geometry: EdgeGeometry, graph: AtomicGraph) -> torch.Tensor:
        energies = super().pair_energies(geometry, graph)
        return (energies + energies.detach()) / 2


class DetachedForces(LennardJones):
    """Forces that no loss can reach."""

    def forward(self, graph: AtomicGraph) -> Prediction:
        prediction = super().forward(graph)
        return prediction._replace(forces=prediction.forces.detach())


class HalfDetachedForces(LennardJones):
    """Forces that train `epsilon` but not `sigma`."""

    def forward(self, graph: AtomicGraph) -> Prediction:
        prediction = super().forward(graph)
        self.sigma.requires_grad_(False)
        forces = super().forward(graph).forces
        self.sigma.requires_grad_(True)
        return prediction._replace(forces=forces)


class RootOfNothing(LennardJones):
    """A power of the coordination, whose second derivative is infinite where there are no neighbors."""

    def atomic_energies(self, graph: AtomicGraph) -> torch.Tensor:
        envelope = self.envelope(self.geometry(graph), graph)
        coordination = envelope.new_zeros(graph.num_atoms).index_add(0, graph.center, envelope)
        return super().atomic_energies(graph) + (self.epsilon[graph.types] * coordination) ** 1.5


class IdleParameter(LennardJones):
    """Carries a weight that does nothing."""

    def __init__(self, config: ToyConfig, card: ModelCard):
        super().__init__(config, card)
        self.idle = torch.nn.Parameter(torch.ones(3, dtype=self.dtype))


def build(config: ToyConfig) -> LennardJones:
    card = ModelCard(
        architecture="toy",
        config=config.shape(),
        type_names=tuple(config.type_names),
        r_max=config.r_max,
        per_edge_type_cutoff=resolve_cutoffs(config).per_edge_type,
        dtype=config.dtype,
        energy_only=config.energy_only,
    )
    variant = globals()[config.variant]
    if config.variant == "Unseeded":
        return variant(config, card)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return variant(config, card)


ARCHITECTURE = Architecture("toy", ToyConfig, build)
