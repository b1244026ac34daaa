"""MACE satisfies what every potential must, with every kind of interaction."""

from __future__ import annotations

from mace_ext.config import MACEConfig
from nequip.model.registry import build_potential
from nequip.testing import EnergyConformance, PotentialConformance


class TestResidual(PotentialConformance):
    def make_potential(self):
        config = MACEConfig(
            type_names=("H", "C", "O"),
            r_max=4.0,
            per_edge_type_cutoff={"H": {"H": 2.5, "C": 3.0}, "O": 3.5},
            num_layers=3,
            hidden_irreps="4x0e+4x1o+4x2e",
            l_max=2,
            correlation=(3, 2, 2),
            radial_mlp=(8,),
            avg_num_neighbors={"H": 4.0, "C": 9.0, "O": 7.0},
            per_type_energy_scales={"H": 2.0, "C": 6.0, "O": 4.0},
            per_type_energy_shifts={"H": -1.0, "C": -6.0, "O": -4.0},
            interaction_shift=0.0,
            per_type_energy_shifts_trainable=True,
            dtype="float64",
        )
        return build_potential(config)


class TestDensities(PotentialConformance):
    def make_potential(self):
        config = MACEConfig(
            type_names=("Cu", "Au"),
            r_max=5.0,
            hidden_irreps="6x0e+6x1o",
            l_max=2,
            correlation=2,
            first_interaction="density",
            interaction="density_residual",
            distance_transform="agnesi",
            pair_potential="zbl",
            radial_mlp=(8, 8),
            avg_num_neighbors=12.0,
            per_type_energy_scales=5.0,
            per_type_energy_shifts=None,
            interaction_shift=0.0,
            heads=("dft", "cc"),
            dtype="float64",
        )
        return build_potential(config)


class TestBothParities(PotentialConformance):
    def make_potential(self):
        config = MACEConfig(
            type_names=("C", "O"),
            r_max=4.0,
            hidden_irreps="3x0e+3x0o+3x1e+3x1o",
            l_max=2,
            correlation=2,
            interaction="plain",
            radial_basis="gaussian",
            distance_transform="soft",
            radial_mlp=(8,),
            avg_num_neighbors=6.0,
            per_type_energy_scales=20.0,
            per_type_energy_shifts=None,
            interaction_shift=0.0,
            dtype="float64",
        )
        return build_potential(config)


class TestEnergiesOnly(EnergyConformance):
    def make_potential(self):
        config = MACEConfig(
            type_names=("Si",),
            r_max=4.0,
            num_layers=1,
            hidden_irreps="4x0e",
            l_max=1,
            correlation=4,
            radial_basis="chebyshev",
            distance_transform="agnesi",
            radial_mlp=(8,),
            avg_num_neighbors=10.0,
            per_type_energy_scales=None,
            per_type_energy_shifts=-5.0,
            interaction_shift=0.0,
            energy_only=True,
            dtype="float64",
        )
        return build_potential(config)
