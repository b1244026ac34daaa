"""NequIP satisfies what every potential must, with both parities, with one, and with other options."""

from __future__ import annotations

from nequip.model.nequip import NequIPConfig
from nequip.model.registry import build_potential
from nequip.testing import EnergyConformance, PotentialConformance


class TestBothParities(PotentialConformance):
    def make_potential(self):
        config = NequIPConfig(
            type_names=("H", "C", "O"),
            r_max=4.0,
            per_edge_type_cutoff={"H": {"H": 2.5, "C": 3.0}, "O": 3.5},
            num_layers=3,
            l_max=2,
            num_features=(4, 3, 2),
            radial_mlp_width=8,
            bessel_trainable=True,
            avg_num_neighbors={"H": 4.0, "C": 9.0, "O": 7.0},
            per_type_energy_scales={"H": 0.5, "C": 1.5, "O": 1.0},
            per_type_energy_shifts={"H": -1.0, "C": -6.0, "O": -4.0},
            per_type_energy_shifts_trainable=True,
            pair_potential="zbl",
            dtype="float64",
        )
        return build_potential(config)


class TestOneParity(PotentialConformance):
    def make_potential(self):
        config = NequIPConfig(
            type_names=("Cu", "Au"),
            r_max=5.0,
            num_layers=2,
            l_max=1,
            parity=False,
            num_features=6,
            radial_mlp_width=8,
            readout_mlp_depth=1,
            avg_num_neighbors=12.0,
            per_type_energy_scales=None,
            per_type_energy_shifts=None,
            dtype="float64",
        )
        return build_potential(config)


class TestOtherOptions(PotentialConformance):
    def make_potential(self):
        config = NequIPConfig(
            type_names=("Na", "Cl"),
            r_max=4.5,
            num_layers=3,
            l_max=2,
            hidden_irreps=("4x0e+2x0o+3x1o+2x1e", "3x0e+2x1o+1x2e", "5x0e"),
            harmonics="solid",
            type_embed_num_features=3,
            radial_mlp_depth=2,
            radial_mlp_width=(6, 5),
            radial_mlp_nonlinearity="shifted_softplus",
            cutoff_onset=3.5,
            self_connection=("element", "shared", "type_embedding"),
            linear_bias=True,
            rms_norm=True,
            readout_mlp_depth=1,
            readout_mlp_width=(7,),
            readout_mlp_nonlinearity="tanh",
            avg_num_neighbors=12.0,
            per_type_energy_scales=None,
            per_type_energy_shifts=None,
            dtype="float64",
        )
        return build_potential(config)


class TestEnergiesOnly(EnergyConformance):
    def make_potential(self):
        config = NequIPConfig(
            type_names=("Si",),
            r_max=4.0,
            num_layers=1,
            l_max=1,
            num_features=4,
            avg_num_neighbors=10.0,
            per_type_energy_scales=None,
            per_type_energy_shifts=-5.0,
            energy_only=True,
            dtype="float64",
        )
        return build_potential(config)
